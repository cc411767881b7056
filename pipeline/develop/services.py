"""A process of services as `pipeline dev` sees it: asked to load, told to run, ended."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from typing import Any

from pipeline.develop.candidate import Order
from pipeline.develop.line import GO, Line
from pipeline.process import Children
from pipeline.process.interpreter import environment_of_ours

LOAD_S = 120.0  # for what is imported, and for topics to be created
STOP_S = 20.0
MODULE = "pipeline.develop.candidate"


class Services:
    """One process, from the time it begins to load a topology."""

    def __init__(self, order: Order, children: Children) -> None:
        self._children = children
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = children.start(
                [sys.executable, "-m", MODULE, str(theirs.fileno()), str(order)],
                env=environment_of_ours() | {"PYTHONUNBUFFERED": "1"},  # what a service prints is shown at once
                pass_fds=[theirs.fileno()],
            )
        self.line = Line(ours)
        self._begun_s = time.monotonic()

    def hear(self) -> dict[str, Any] | None:
        """Return what the process has said, if anything. One that ends or hangs while it loads is refused."""
        heard = self.line.hear(0)
        if heard is None and self.line.is_over:
            return {"refused": f"the process that loads it has ended, {_how(self.process.wait())}", "by_save": True}
        if heard is None and time.monotonic() - self._begun_s > LOAD_S:
            return {"refused": f"it has not loaded within {LOAD_S:.0f} s; does a module wait?", "by_save": True}
        return heard

    def go(self) -> None:
        """Have it run what it has loaded."""
        self.line.say(GO)

    def ended(self) -> int | None:
        """Return its exit code if it has ended."""
        return self.process.poll()

    def stop(self) -> None:
        """End the process: in order if it does so in time."""
        self.line.close()
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._children.release(self.process.pid)


def _how(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"

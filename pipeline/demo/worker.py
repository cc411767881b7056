"""The demo's worker process, and the end of what a demo has left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from rich.console import Console

from pipeline.broker import local
from pipeline.errors import PipelineError
from pipeline.runtime.processes import NEEDS_CURE

SHOP = "topologies"
STOP_S = 20.0
LOOK_S = 0.1


class Workers(Protocol):
    """What the shop's services are run by. `log`: where they say what is wrong."""

    log: Path

    def start(self) -> None: ...
    def revive(self) -> None: ...
    def stop(self) -> None: ...


class Worker:
    """The demo's worker process; started again when it dies, as a supervisor would."""

    def __init__(self, home: Path, bootstrap: str, processes: int, console: Console) -> None:
        self.log = home / "worker.log"
        self._home, self._console = home, console
        self._command = [sys.executable, "-m", "pipeline", "worker", SHOP, "--bootstrap", bootstrap]
        self._command += ["--home", str(home), "--processes", str(processes)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; its log is appended to."""
        self._home.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as out:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        (self._home / "worker.json").write_text(json.dumps({"pid": self._process.pid}))

    def revive(self) -> None:
        """Starts it again if it has died. PipelineError where starting again would not help."""
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return
        if code == NEEDS_CURE:
            tail = self.log.read_text().strip().splitlines()[-1:]
            raise PipelineError(f"the worker ended with code {code}: {' '.join(tail)} (log: {self.log})")
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        self._console.print(f"[yellow]the worker was ended {how}; starting it again[/]")
        self.start()

    def stop(self) -> None:
        """Ends it, gracefully if it can."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def stop(home: Path) -> bool:
    """Ends what `pipeline demo --keep` has left running; False where nothing was."""
    stopped = False
    try:
        pid = int(json.loads((home / "worker.json").read_text())["pid"])
        if f"--home\0{home}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGTERM)
            stopped = True
            deadline = time.monotonic() + STOP_S
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(LOOK_S)
    except (OSError, ValueError, KeyError):
        pass
    return local.down(home / "broker") or stopped

"""The demo's worker process, and the end of what `--keep` has left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from rich.console import Console

from pipeline.broker import local
from pipeline.demo.shop import SHOP
from pipeline.errors import PipelineError
from pipeline.process import Children
from pipeline.process.interpreter import environment_of_ours
from pipeline.worker.processes import NEEDS_CURE

STOP_S = 20.0
LOOK_S = 0.1
NOTE = "worker.json"  # has its process id


class Workers(Protocol):
    """What runs the shop's services. `log`: its log file."""

    log: Path

    def start(self) -> None: ...
    def revive(self) -> None: ...
    def stop(self) -> None: ...


class Worker:
    """The demo's worker process, restarted when it dies, as by a supervisor."""

    def __init__(self, home: Path, bootstrap: str, processes: int, console: Console, children: Children) -> None:
        self.log = home / "worker.log"
        self._home, self._console, self._children = home, console, children
        self._command = [sys.executable, "-m", "pipeline", "worker", SHOP, "--bootstrap", bootstrap]
        self._command += ["--home", str(home), "--processes", str(processes)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the worker; append to its log."""
        with self.log.open("a") as out:
            self._process = self._children.start(self._command, stdout=out, stderr=out, env=environment())
        (self._home / NOTE).write_text(json.dumps({"pid": self._process.pid}))

    def release(self) -> None:
        """Let the worker outlive this process."""
        assert self._process is not None
        self._children.release(self._process.pid)

    def revive(self) -> None:
        """Restart the worker if it has died. Raises PipelineError if a restart would not help."""
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return
        if code == NEEDS_CURE:
            tail = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise PipelineError(f"the worker ended with code {code}: {' '.join(tail)} (log: {self.log})")
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        self._console.print(f"the worker was ended {how}; starting it again", style="yellow")
        self.start()

    def stop(self) -> None:
        """Stop the worker, gracefully if possible."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def environment() -> dict[str, str]:
    """Return the environment of the worker, which takes no defaults of the user's own topology."""
    found = environment_of_ours() | {"PIPELINE_CONFIG": os.devnull}
    for name in ("PIPELINE_SCHEMAS", "PIPELINE_TOKEN_FILE"):
        found.pop(name, None)
    return found


def stop(home: Path) -> bool:
    """Stop what `pipeline demo --keep` has left running. Return False if nothing was."""
    worker = _noted(home)
    if worker is not None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(worker, number)
            deadline = time.monotonic() + STOP_S
            while _is_ours(worker, home) and time.monotonic() < deadline:
                time.sleep(LOOK_S)
            if not _is_ours(worker, home):
                break
    return local.down(home / "broker") or worker is not None


def _noted(home: Path) -> int | None:
    """Return the process id of the worker noted in the directory, if it runs."""
    try:
        pid = int(json.loads((home / NOTE).read_text())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if _is_ours(pid, home) else None


def _is_ours(pid: int, home: Path) -> bool:
    """Return whether that process is a worker of this directory, and not a later one with the same id."""
    if Path("/proc/self").exists():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="surrogateescape")
        except OSError:
            return False
    else:
        asked = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        words = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return " worker " in words and f"--home {home} " in words

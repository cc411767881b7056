"""Several worker processes side by side: starts them, passes signals on, starts one again that dies."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pipeline.process import Children, Ended, orderly_end

log = logging.getLogger(__name__)

STOP_S = 20.0
LOOK_S = 0.2
NEEDS_CURE = 2  # exit code of an error that its message tells how to cure; starting again does not
WORKED_S = 10.0  # one that has lived so long was started rightly: what ended it, such as a full disk, may pass
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)
TOGETHER = "--together"  # tells each that the others end when it does, and are nobody to hand partitions over to
CALM_S = 60.0  # a process that has lived this long is started again without delay


def run_processes(count: int, own: Sequence[Sequence[str]] = ()) -> int:
    """Run this command line in `count` processes, until a signal comes. Return the exit code.

    They are asked to end by SIGTERM, whichever signal comes, and end also if this process is killed. `own`: further
    arguments of each, in place of those of the same options.
    """
    arguments = without(sys.argv[1:], ["--processes", *(word for word in (own[0] if own else ()) if word[:2] == "--")])
    command = [sys.executable, "-m", "pipeline", *arguments, TOGETHER]
    code = 0
    try:
        with orderly_end(), Children(STOP_S) as children:
            workers = [
                WorkerProcess(index, [*command, *(own[index] if own else ())], children) for index in range(count)
            ]
            try:
                code = _supervise(workers)
            finally:
                _stop(workers)
    except Ended as ended:
        log.info("%s; the worker processes have ended", ended, extra={"event": "stopped"})
    return code


@dataclass(slots=True)
class WorkerProcess:
    """One worker process and its restarts."""

    index: int
    command: list[str]
    children: Children
    process: subprocess.Popen[bytes] | None = None
    due_s: float = 0.0  # when it is to be started, if it does not run
    started_s: float = 0.0
    deaths: int = 0
    worked: bool = False

    def look(self) -> int | None:
        """Start the process if due. Return its exit code, once, if it has ended."""
        now_s = time.monotonic()
        if self.process is None:
            if now_s >= self.due_s:
                self.process, self.started_s = self.children.start(self.command), now_s
            return None
        code = self.process.poll()
        if code is not None:
            lived_s = now_s - self.started_s
            self.worked = self.worked or lived_s > WORKED_S
            self.deaths = 0 if lived_s > CALM_S else self.deaths + 1
            self.process = None
        return code

    def start_later(self, code: int) -> None:
        """Schedule a restart, the later the more often the process has died."""
        delay_s = BACKOFF_S[min(self.deaths, len(BACKOFF_S) - 1)]
        self.due_s = time.monotonic() + delay_s
        event = {"event": "process_ended", "worker": self.index}
        text = "worker process %d ended with code %d; starting it again in %.1f s"
        log.error(text, self.index, code, delay_s, extra=event)


def _supervise(workers: list[WorkerProcess]) -> int:
    while True:
        for worker in workers:
            code = worker.look()
            if code == NEEDS_CURE and not worker.worked:
                log.error("worker process %d cannot start, as it says; all end", worker.index)
                return code
            if code is not None:
                worker.start_later(code)
        time.sleep(LOOK_S)


def _stop(workers: list[WorkerProcess]) -> None:
    running = [worker.process for worker in workers if worker.process is not None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + STOP_S
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("worker process %d does not end; killing it", process.pid)
            process.kill()
            process.wait()


def without(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """A command line without these options and their values."""
    kept = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in options:
            skip = True
        elif argument.partition("=")[0] not in options:
            kept.append(argument)
    return kept

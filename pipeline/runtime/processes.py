"""Several worker processes side by side: starts them, passes signals on, starts one again that dies."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from types import FrameType

log = logging.getLogger(__name__)

STOP_S = 20.0
NEEDS_CURE = 2  # exit code of an error that its message tells how to cure; starting again does not
WORKED_S = 10.0  # one that has lived so long was started rightly: what ended it, such as a full disk, may pass
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)
CALM_S = 60.0  # a process that has lived this long is started again without delay


def run_processes(count: int, own: Sequence[Sequence[str]] = ()) -> int:
    """Runs this very command line `count` times with one process each, until a signal comes. Returns the exit code.

    `own`: further arguments of each, in place of those of the same options.
    """
    arguments = without(sys.argv[1:], ["--processes", *(word for word in (own[0] if own else ()) if word[:2] == "--")])
    children: dict[int, subprocess.Popen[bytes]] = {}
    started_s: dict[int, float] = {}
    deaths = [0] * count
    worked = [False] * count
    stopping = False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for child in children.values():
            if child.poll() is None:
                child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)

    def start(index: int) -> None:
        command = [sys.executable, "-m", "pipeline", *arguments, *(own[index] if own else ())]
        children[index] = subprocess.Popen(command, start_new_session=True)
        started_s[index] = time.monotonic()

    for index in range(count):
        start(index)
    code = 0
    while not stopping:
        time.sleep(0.2)
        for index, child in children.items():
            if stopping or child.poll() is None:
                continue
            lived_s = time.monotonic() - started_s[index]
            worked[index] = worked[index] or lived_s > WORKED_S
            if child.returncode == NEEDS_CURE and not worked[index]:
                code = NEEDS_CURE
                stop(signal.SIGTERM, None)
                break
            deaths[index] = 0 if lived_s > CALM_S else deaths[index] + 1
            delay_s = BACKOFF_S[min(deaths[index], len(BACKOFF_S) - 1)]
            log.error(
                "worker process %d ended with code %d; starting it again in %.1f s", index, child.returncode, delay_s
            )
            time.sleep(delay_s)
            if not stopping:
                start(index)
            break
    deadline = time.monotonic() + STOP_S
    for child in children.values():
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("worker process %d does not end; killing it", child.pid)
            child.kill()
            child.wait()
    return code


def without(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """The same command line without these options, which all have a value."""
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

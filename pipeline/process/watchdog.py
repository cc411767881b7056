"""Ends the processes that it watches once its standard input ends, that is, once the process that started it ends.

A script, started by `Children` with the interpreter alone (`-I -S`), so that it is small and starts at once. Each line
of its input is `watch <pid>` or `release <pid>`. Signals do not end it: it ends when those it watches have.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress

LOOK_S = 0.05


class Watched:
    """One process. If the system has process handles, a later process with the same id is not taken for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None

    def send(self, number: int) -> None:
        if self._handle is None:
            os.kill(self.pid, number)
        else:
            signal.pidfd_send_signal(self._handle, number)

    def is_over(self) -> bool:
        if self._handle is not None:
            return bool(select.select([self._handle], [], [], 0)[0])
        try:
            os.kill(self.pid, 0)
        except OSError:
            return True
        return False

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)


def main(grace_s: float) -> None:
    """Read until the input ends, then end the watched processes."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[int, Watched] = {}
    for line in sys.stdin:
        word, pid = line.split()[0], int(line.split()[1])
        if word == "watch" and pid not in watched:
            with suppress(OSError):  # it has ended already
                watched[pid] = Watched(pid)
        elif word == "release" and pid in watched:
            watched.pop(pid).close()
    left = list(watched.values())
    for number in (signal.SIGTERM, signal.SIGKILL):
        for each in left:
            with suppress(OSError):
                each.send(number)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            left = [each for each in left if not each.is_over()]
            if not left:
                return
            time.sleep(LOOK_S)


if __name__ == "__main__":
    main(float(sys.argv[1]))

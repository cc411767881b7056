"""Child processes that end with their parent, whatever ends it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

WATCHDOG = Path(__file__).with_name("watchdog.py")
GRACE_S = 20.0
LOOK_S = 0.02
# The child waits for a line from its parent before it becomes the command: by then the watchdog knows of it, and if the
# parent has ended meanwhile, there is no line, and the child ends, too.
GATE = ("/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "sh")


class Children:
    """Starts child processes that end with this process, however it ends, SIGKILL included, unless they are released.

    A watchdog, a small process in a session of its own, reads a pipe that only this process holds open. Once the pipe
    ends, it sends SIGTERM to the processes it watches and, after `grace_s`, SIGKILL. A pipe, not the kernel's signal at
    a parent's death: that one exists only on Linux, comes when the starting *thread* ends, and cannot be taken back for
    a process that is to stay. `holding`: descriptors of locks to hold until all of them have ended. For one thread at a
    time.
    """

    def __init__(self, grace_s: float = GRACE_S, holding: Sequence[int] = ()) -> None:
        self._grace_s, self._holding = grace_s, tuple(holding)
        self._watched: set[int] = set()
        self._started: list[subprocess.Popen[bytes]] = []
        self._watchdog = self._start_watchdog()

    def _start_watchdog(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(WATCHDOG), str(self._grace_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            bufsize=0,
            start_new_session=True,
            pass_fds=self._holding,
        )

    def start(
        self,
        command: Sequence[str],
        *,
        stdout: int | IO[bytes] | IO[str] | None = None,
        stderr: int | IO[bytes] | IO[str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a child without input, in a session of its own: a Ctrl-C reaches it only by this process.

        `pass_fds`: descriptors that it is to have, too.
        """
        process = subprocess.Popen(
            [*GATE, *command],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
            bufsize=0,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        for each in [each for each in self._started if each.poll() is not None]:
            self.release(each.pid)  # so that a later process of its number is not taken for it
        self._started.append(process)
        self.watch(process.pid)
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has been ended already
            process.stdin.write(b"go\n")
        process.stdin.close()
        process.stdin = None
        return process

    def watch(self, pid: int) -> None:
        """End that process with this one, too."""
        self._watched.add(pid)
        self._tell("watch", pid)

    def release(self, pid: int) -> None:
        """Let that process outlive this one. Call it also for a process that has ended and been waited for."""
        self._watched.discard(pid)
        self._started = [each for each in self._started if each.pid != pid]
        self._tell("release", pid)

    def _tell(self, word: str, pid: int) -> None:
        try:
            self._write(word, pid)
        except BrokenPipeError:  # somebody has killed the watchdog
            self._watchdog.wait()
            self._watchdog = self._start_watchdog()
            for each in self._watched:
                self._write("watch", each)

    def _write(self, word: str, pid: int) -> None:
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.write(f"{word} {pid}\n".encode())

    def close(self) -> None:
        """End the processes still watched, and wait until they have ended."""
        assert self._watchdog.stdin is not None
        if not self._watchdog.stdin.closed:
            self._watchdog.stdin.close()
        deadline = time.monotonic() + 2 * self._grace_s + 5
        while self._watchdog.poll() is None and time.monotonic() < deadline:
            for each in self._started:
                each.poll()  # reaped, it is over also for a watchdog without handles of processes
            time.sleep(LOOK_S)
        for each in self._started:
            each.poll()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

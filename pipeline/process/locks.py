"""A lock between processes: a file that one of them holds at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_S = 0.1


class Busy(Exception):
    """Another process has held the lock for longer than one waits."""


@contextmanager
def locked(path: Path, patience_s: float, waiting: Callable[[], None] = lambda: None) -> Iterator[int]:
    """Hold the lock at `path`, and yield its descriptor. The lock ends with the process, whatever ends that.

    If another process holds it, call `waiting` once and wait. Raises Busy after `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    told = False
    while (lock := take(path)) is None:
        if time.monotonic() > deadline:
            raise Busy(path)
        if not told:
            waiting()
        told = True
        time.sleep(LOOK_S)
    try:
        yield lock
    finally:
        os.close(lock)


def take(path: Path) -> int | None:
    """The descriptor of the lock at `path`, now held; None if another process holds it, or it has just been deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except FileNotFoundError:  # another one has just thrown the directory away
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another process may have deleted the file with its directory: then the lock is on a file that is gone.
        if os.fstat(lock).st_ino == path.stat().st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def runs(pid: int) -> bool:
    """Return whether there is a process of that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True

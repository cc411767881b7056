"""The home of `pipeline dev`: one at a time uses it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import StateDirectoryError
from pipeline.process.locks import runs, take

LOCK = "dev.lock"  # held while it runs, and by what ends its processes if it is killed; has its process id
ENDING_S = 60.0  # how long the processes of a killed one may take to end
LOOK_S = 0.1


@contextmanager
def held(home: Path) -> Iterator[int]:
    """Hold the home, and yield the lock's descriptor. Raises StateDirectoryError if another one holds it."""
    deadline = time.monotonic() + ENDING_S
    while (lock := take(home / LOCK)) is None:
        pid = _noted(home)
        if time.monotonic() > deadline or (pid and runs(pid)):
            raise StateDirectoryError(
                f"another pipeline dev, process {pid or 'unknown'}, uses {home}; end it with Ctrl-C, or name another "
                "directory with --home"
            )
        time.sleep(LOOK_S)
    try:
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        yield lock
    finally:
        os.close(lock)


def check_free(home: Path) -> None:
    """Raise StateDirectoryError if a pipeline dev uses the home: nothing may be ended or deleted there."""
    if not (home / LOCK).exists():
        return
    if (lock := take(home / LOCK)) is not None:
        os.close(lock)
    elif runs(pid := _noted(home)):
        raise StateDirectoryError(
            f"pipeline dev, process {pid}, uses the broker of {home}; end it with Ctrl-C first. To begin with nothing "
            "there: pipeline dev TOPOLOGY --fresh"
        )


def _noted(home: Path) -> int:
    with suppress(OSError, ValueError):
        return int((home / LOCK).read_text())
    return 0

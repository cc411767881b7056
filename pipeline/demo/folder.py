"""The directory of a demo, `--home`. One demo uses it at a time, and only what demos make is deleted there."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DemoFolderError
from pipeline.process.locks import runs, take

MARK = ".pipeline-demo"  # marks the directory as a demo's; the demo that uses it holds a lock on it
LOGS = (Path("worker.log"), Path("broker/broker.log"))
MADE = re.compile(r"broker|state|worker\.log|worker\.json|(secret|home)(\.\d+)*")  # by a demo, its broker and worker
ENDING_S = 60.0  # how long the processes of a killed demo may take to end
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Folder:
    """A demo's directory, while the demo holds it. `lock`: the descriptor of its mark."""

    path: Path
    lock: int
    is_new: bool  # a demo has created the directory itself

    def empty(self) -> None:
        """Delete what demos have made in it. Raises DemoFolderError if any of it remains."""
        with _told(self.path):
            for place in self._made():
                _delete(place)

    def _made(self) -> list[Path]:
        return [place for place in self.path.iterdir() if MADE.fullmatch(place.name)]

    def leave(self) -> None:
        """Delete what demos have made, the mark, and the directory itself if a demo has created it."""
        self.empty()
        with suppress(OSError):
            if [place.name for place in self.path.iterdir()] == [MARK]:
                (self.path / MARK).unlink()
                if self.is_new:
                    self.path.rmdir()

    def leave_logs(self) -> list[Path]:
        """Delete as `leave`, but keep logs that are not empty. Return these."""
        logs = [self.path / log for log in LOGS if _size(self.path / log)]
        if not logs:
            self.leave()
            return []
        for place in self._made():
            for inner in place.iterdir() if place.is_dir() else [place]:
                if inner not in logs:
                    with suppress(OSError):
                        _delete(inner)
        return logs


@contextmanager
def hold(path: Path, *, to_empty: bool = True) -> Iterator[Folder]:
    """Make the directory a demo's, and lock it. Raises DemoFolderError if another demo holds it.

    `to_empty`: also raise if it contains anything that no demo has made.
    """
    if to_empty:
        _refuse_others(path)
    with _told(path):
        is_new = not path.exists()
        lock = _lock(path)
    try:
        if to_empty:
            _refuse_others(path)
        with _told(path):
            noted = _noted(path)
            is_new = bool(noted.get("is_new", is_new))
            (path / MARK).write_text(json.dumps({"made by": "pipeline demo", "pid": os.getpid(), "is_new": is_new}))
        yield Folder(path, lock, is_new)
    finally:
        os.close(lock)


def is_marked(path: Path) -> bool:
    """Return whether a demo has made the directory."""
    return (path / MARK).is_file()


def _refuse_others(path: Path) -> None:
    """Raise DemoFolderError if anything in the directory was not made by a demo."""
    with _told(path):
        found = {each.name for each in path.iterdir()} if path.exists() else set()
    if not found or found == {MARK}:
        return
    foreign = sorted(name for name in found - {MARK} if MARK not in found or not MADE.fullmatch(name))
    if foreign:
        more = f" and {len(foreign) - 1:,} more" if len(foreign) > 1 else ""
        raise DemoFolderError(
            f"{path} contains what no demo has made, {foreign[0]!r}{more}, and a demo empties its directory; nothing "
            "was deleted; move that away, or name a new or empty directory with --home"
        )


def _lock(path: Path) -> int:
    """Lock the mark and return its descriptor. Raises DemoFolderError if a running demo holds it."""
    deadline = time.monotonic() + ENDING_S
    while (lock := take(path / MARK)) is None:
        pid = _noted(path).get("pid", 0)
        # If a demo was killed, the processes that it has started hold the lock until all of them have ended.
        if time.monotonic() > deadline or (pid and runs(pid)):
            raise DemoFolderError(
                f"another demo, process {pid or 'unknown'}, uses {path}; wait for its end, end it with Ctrl-C, or "
                "name another directory with --home"
            )
        time.sleep(LOOK_S)
    return lock


def _noted(path: Path) -> dict[str, int]:
    """Return the contents of the mark; nothing if a demo was killed before it had written them."""
    try:
        noted = json.loads((path / MARK).read_text())
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in noted.items() if isinstance(value, int)} if isinstance(noted, dict) else {}


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn errors of the system into DemoFolderError."""
    try:
        yield
    except OSError as error:
        raise DemoFolderError(
            f"cannot use {path} as the demo's directory: {error.strerror or error}; name another with --home"
        ) from None


def _delete(place: Path) -> None:
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0

"""The files of a project that make its services, and which of them have been saved.

What is compared are the files' times and sizes, so a save counts however an editor writes: in place, beside and
renamed, or with a file deleted. The system says when to compare. Every two seconds they are compared in any case, for
file systems that say nothing, such as those shared with a container.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.adapters.avro.registry import MANIFEST
from pipeline.develop.code.files import LEFT_OUT
from pipeline.errors import PipelineError

LOOK_MS = 2000
STEP_MS = 50
QUIET_S = 0.15  # files that are saved together, as by a formatter or Git, are one change
BUSY_S = 3.0
FOLDERS_MAX = 2000
SCHEMAS = "schemas"  # the folder of schemas beside a package
MARKS = ("pipeline.toml", "pyproject.toml", ".git")  # a directory that has one is a project's
Files = dict[Path, tuple[int, int, int]]


def project_of(place: Path) -> Path:
    """Return the directory of the project that a topology's file or package is in: the nearest with a mark of one."""
    beside = place.resolve().parent
    return next((each for each in (beside, *beside.parents) if any((each / mark).exists() for mark in MARKS)), beside)


@dataclass(frozen=True, slots=True)
class Project:
    """The directories in which saves count. `home`, hidden directories and virtual environments are left out.

    `also`: files that count, wherever they are.
    """

    tops: tuple[Path, ...]
    home: Path
    also: tuple[Path, ...] = ()

    @classmethod
    def around(cls, place: Path, home: Path, schemas: Path | None = None, also: Sequence[Path] = ()) -> Project:
        """Return the project that a topology's file or package is in; of a very large one, the package alone.

        `schemas`: their directory, if it is not the usual one; it may be outside.
        """
        whole = cls((project_of(place),), home.resolve(), tuple(also))._with(schemas)
        folders = sum(1 for _, _ in zip(whole.folders(), range(FOLDERS_MAX + 1), strict=False))
        if folders <= FOLDERS_MAX:
            return whole
        alone = place.resolve() if place.is_dir() else place.resolve().parent
        return replace(whole, tops=(alone,))._with(schemas or place.resolve().parent / SCHEMAS)

    def _with(self, schemas: Path | None) -> Project:
        if schemas is None or any(schemas.resolve().is_relative_to(top) for top in self.tops):
            return self
        return replace(self, tops=(*self.tops, schemas.resolve()))

    def is_test(self, path: Path) -> bool:
        """Return whether a file is one of tests, by its name or that of a directory in the project."""
        name = path.name
        inside = next((path.relative_to(top) for top in self.tops if path.is_relative_to(top)), path)
        of_tests = name == "conftest.py" or name.startswith("test_") or name.endswith("_test.py")
        return of_tests or not {"test", "tests"}.isdisjoint(inside.parts[:-1])

    def folders(self) -> Iterator[Path]:
        """Return the directories whose files count."""
        for top in self.tops:
            for folder, inner, _ in os.walk(top):
                inner[:] = [name for name in inner if not self._is_left_out(Path(folder) / name)]
                yield Path(folder)

    def _is_left_out(self, folder: Path) -> bool:
        return (
            folder.name.startswith(".")
            or folder.name in LEFT_OUT
            or folder == self.home
            or (folder / "pyvenv.cfg").exists()
        )

    def files(self) -> Files:
        """Return the files of Python and of schemas, and `also`, each with what changes when it is saved."""
        found: Files = {}
        for folder in self.folders():
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if (entry.name.endswith((".py", ".avsc")) or entry.name == MANIFEST) and entry.is_file():
                            found[Path(entry.path)] = _state(entry.stat())
            except OSError:  # it has been deleted meanwhile
                continue
        for path in self.also:
            with suppress(OSError):
                found[path] = _state(path.stat())
        return found


def _state(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


class Saves:
    """Sees the saves of a project. A thread of its own waits for the system to say that something has happened."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._seen = project.files()
        self._woken, self._stopped = threading.Event(), threading.Event()
        self._watch = _watch_function()
        threading.Thread(target=self._run, name="saves", daemon=True).start()

    def wait(self, patience_s: float) -> list[Path]:
        """Return the files that were saved, made or deleted since the last call; wait for some."""
        if not self._woken.wait(patience_s):
            return []
        self._woken.clear()
        changed = self._look()
        deadline = time.monotonic() + BUSY_S
        more = changed
        while more and time.monotonic() < deadline:
            time.sleep(QUIET_S)
            more = self._look()
            changed |= more
        return sorted(changed)

    def _look(self) -> set[Path]:
        before, self._seen = self._seen, self._project.files()
        return {path for path in before.keys() | self._seen.keys() if before.get(path) != self._seen.get(path)}

    def _run(self) -> None:
        while not self._stopped.is_set():
            folders = set(self._project.folders())
            try:
                for changes in self._watch(
                    *folders,
                    watch_filter=None,
                    recursive=False,  # directories that are left out, such as a virtual environment, cost nothing
                    debounce=STEP_MS,
                    step=STEP_MS,
                    stop_event=self._stopped,
                    rust_timeout=LOOK_MS,
                    yield_on_timeout=True,
                    raise_interrupt=False,
                ):
                    self._woken.set()
                    if any(Path(path).is_dir() and Path(path) not in folders for _, path in changes):
                        break  # a new directory is to be watched, too
            except (OSError, RuntimeError):  # a directory has gone meanwhile, or the system watches no more of them
                self._woken.set()
                self._stopped.wait(LOOK_MS / 1000)

    def close(self) -> None:
        """Watch no more."""
        self._stopped.set()


def _watch_function() -> Callable[..., Iterator[set[tuple[Any, str]]]]:
    """Return the function of watchfiles, which only the extra `develop` brings."""
    try:
        from watchfiles import watch
    except ImportError:
        raise PipelineError(
            "pipeline dev needs the package watchfiles; install it with: pip install 'kafka-pipeline[develop]'"
        ) from None
    return watch

"""Faults of the state directory: deleted, cut short, from an earlier time, on a full disk."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.round import Round

DISK_MB = 48


class Skipped(Exception):
    """The fault cannot be made here."""


def _deleted(state: Path, rng: random.Random) -> int:
    shutil.rmtree(state)
    return 1


def _cut(pattern: str) -> object:
    def cut(state: Path, rng: random.Random) -> int:
        files = [file for file in sorted(state.glob(f"*/*/*/{pattern}")) if file.stat().st_size > 1]
        chosen = rng.sample(files, min(3, len(files)))
        for file in chosen:
            os.truncate(file, file.stat().st_size // 2)
        return len(chosen)

    return cut


def _missing(pattern: str) -> object:
    def remove(state: Path, rng: random.Random) -> int:
        files = sorted(state.glob(f"*/*/*/{pattern}"))
        chosen = rng.sample(files, min(3, len(files)))
        for file in chosen:
            file.unlink()
        return len(chosen)

    return remove


def _older(state: Path, rng: random.Random) -> int:
    shutil.rmtree(state)
    shutil.copytree(state.with_name("older"), state)
    return 1


DAMAGES = {
    "deleted": _deleted,
    "table file cut": _cut("*.sst"),
    "from an earlier time": _older,
    "MANIFEST cut": _cut("MANIFEST-*"),
    "table file missing": _missing("*.sst"),
    "CURRENT missing": _missing("CURRENT"),
}

UNREADABLE = ("table file cut", "table file missing", "CURRENT missing")  # a cut MANIFEST may leave an earlier state


def damages(round_: Round, times: int) -> None:
    """Between two runs something happens to the state directory."""
    names = [list(DAMAGES)[n % len(DAMAGES)] for n in range(times)]
    round_.schedule(names)
    round_.begin("")
    fleet = round_.fleet
    for n, name in enumerate(names):
        fleet.stop()
        if n == 0:
            shutil.copytree(round_.state, round_.state.with_name("older"))
        done = DAMAGES[name](round_.state, round_.rng)  # type: ignore[operator]
        assert done, f"nothing to damage for {name!r}"
        at = time.time()
        fleet.start()
        fleet.until(f"work goes on after {name!r}", lambda at=at: round_.observer.recovered_s(at) is not None)
        fleet.until_all_run()
        if name in ("deleted", "from an earlier time"):
            status = fleet.workers[0].status() or {}
            assert any(each["restored"] for each in status.values()), "the damage was not noticed"
        if name in UNREADABLE:
            status = fleet.workers[0].status() or {}
            assert any(each["wiped"].get("damaged") for each in status.values()), "the damage was not noticed"
        round_.injected(at)


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A file system of its own at `place`. Skipped where that is not permitted."""
    place.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        raise Skipped(f"no file system may be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leaves no room on the disk of `place`."""
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(64 * 1024))
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(b"\0")
    assert os.statvfs(place).f_bavail == 0
    return filler


def full_disk(round_: Round, times: int) -> None:
    """The disk of the tables is full for a while, for a running worker and for one that starts."""
    steps = round_.schedule([round(round_.rng.uniform(2.0, 4.0), 1) for _ in range(times)])
    round_.cleanup.enter_context(small_disk(round_.state))
    round_.fleet.environment = {"TEST_FLUSH_S": "0.2"}
    round_.begin("")
    for seconds in steps:
        before = set(round_.state.glob("*/*/*/*.sst"))
        round_.fleet.until("tables are written", lambda b=before: set(round_.state.glob("*/*/*/*.sst")) - b)
        filler = fill(round_.state)
        round_.pass_time(seconds)
        round_.fleet.until("somebody notices", lambda: noticed(round_), 30.0)
        filler.unlink()
        at = time.time()
        round_.injected(at)
        round_.fleet.until_all_run()


def noticed(round_: Round) -> bool:
    """Whether a worker or one of its tables has found the disk full."""
    logs = [*round_.home.glob("worker-*.log"), *round_.state.glob("*/*/*/LOG*")]
    return any("No space left" in log.read_text(errors="replace") for log in logs)

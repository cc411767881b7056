"""Checks of the machine: what is installed, and what it has left."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.adapters import descriptors
from pipeline.adapters.avro.compile_native import is_native
from pipeline.doctor.check import Finding, ok, warning, wrong
from pipeline.model import Service
from pipeline.worker.open_files import SPARE, needed, share_out

PACKAGE = "kafka-pipeline"
PYTHON_MIN = (3, 11)
FREE_BYTES_MIN, FREE_SHARE_MIN = 1 << 30, 0.05
MEMORY_BYTES_MIN = 256 << 20
NEEDED = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9.]+)$")  # of what the package requires, without extras
CGROUPS = (  # limit and use, of version 2 and 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def versions() -> Iterator[Finding]:
    """Check Python, the packages that this one needs, and the extension in C."""
    python = platform.python_version()
    if tuple(map(int, python.split(".")[:2])) < PYTHON_MIN:
        yield wrong(f"Python {python}", f"install Python {'.'.join(map(str, PYTHON_MIN))} or newer")
    found = []
    for requirement in importlib.metadata.requires(PACKAGE) or ():
        if (parts := NEEDED.match(requirement.replace(" ", ""))) is None:
            continue
        name, least = parts.groups()
        there = importlib.metadata.version(name)
        found.append(f"{name} {there}")
        if _numbers(there) < _numbers(least):
            yield wrong(f"{name} {there} is older than {least}", f"pip install '{name}>={least}'")
    yield ok(f"Python {python}, {PACKAGE} {importlib.metadata.version(PACKAGE)}, {', '.join(found)}")
    if not is_native():
        cure = "install a wheel of the package, or a C compiler and then the package anew"
        yield warning("the extension in C is missing: encoding and decoding are several times slower", cure)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"[0-9]+", version)[:3]))


def disk(home: Path) -> Iterator[Finding]:
    """Check that there is room where the tables are, and that it may be written there."""
    there = next(path for path in (home.absolute(), *home.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        yield wrong(f"{there} cannot be written by this user", "give it the right, or name another place with --home")
        return
    usage = shutil.disk_usage(there)
    says = f"{_bytes(usage.free)} of {_bytes(usage.total)} free at {there}"
    if usage.free < max(FREE_BYTES_MIN, FREE_SHARE_MIN * usage.total):
        yield wrong(says, "make room there, or name another place with --home: tables are not written without")
    else:
        yield ok(says)


def open_files(services: Sequence[Service], all_services: int, brokers: int) -> Iterator[Finding]:
    """Check that one process may have as many open files as these services need."""
    limit, need = descriptors.limit(), needed(services, all_services, brokers) + SPARE
    says = f"up to {need:,} are needed by {len(services)} services in one process, {limit:,} are allowed"
    if need <= limit:
        yield ok(says)
        return
    parts = share_out(services, all_services, brokers, limit)  # raises if not even one service can start
    yield warning(f"{says}: the services run in {len(parts)} processes", descriptors.cure(need))


def memory() -> Iterator[Finding]:
    """Check that there is memory left, on the machine and in the container."""
    left = [each for each in (_of_machine(), *(_of_container(*files) for files in CGROUPS)) if each is not None]
    if not left:
        yield ok("this system does not say how much is left")
    elif min(left) < MEMORY_BYTES_MIN:
        yield wrong(f"{_bytes(min(left))} left", "give the machine or container more, or run fewer services on it")
    else:
        yield ok(f"{_bytes(min(left))} left")


def _of_machine() -> int | None:
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    return None if found is None else int(found[1]) << 10


def _of_container(limit: str, used: str) -> int | None:
    try:
        return int(Path(limit).read_text()) - int(Path(used).read_text())
    except (OSError, ValueError):  # no container, or one without a limit
        return None


def locks(state_dir: Path) -> Iterator[Finding]:
    """Check that no process that stands still holds a slot: its partitions wait, and no other may take them there."""
    holders = _holders()
    held = 0
    for lock in sorted(state_dir.glob("*/*/lock")):
        pid = holders.get(lock.stat().st_ino)
        held += pid is not None
        if pid is not None and _stands(pid):
            slot = f"{lock.parent.parent.name}/{lock.parent.name}"
            yield wrong(
                f"process {pid}, which is stopped, holds the slot {slot} in {state_dir}", f"kill -CONT {pid}, or end it"
            )
    yield ok(f"{held} slots in {state_dir} are in use" if held else f"no slot in {state_dir} is in use")


def _holders() -> dict[int, int]:
    """Return the process that holds a lock on a file, by the file's inode; empty where the system does not say."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return {}
    found = re.findall(r"FLOCK\s+\S+\s+WRITE\s+(\d+)\s+\S+:(\d+)\s", "\n".join(lines))
    return {int(inode): int(pid) for pid, inode in found}


def _stands(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit in ("B", "KiB") else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"

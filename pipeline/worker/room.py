"""Whether the machine has the memory that a worker needs, and the cluster room for its partitions; said at the start.

Figures: docs/sizing.md. Open files: see open_files.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.adapters.rocksdb.database import BLOCK_CACHE_BYTES
from pipeline.model import Service

log = logging.getLogger(__name__)

MB = 1 << 20
PROCESS_BYTES = 100 * MB  # Python with all that is imported
SERVICE_BYTES = 80 * MB  # the queues of its clients: what is read ahead, and what is to be sent
PARTITIONS_MAX = 4_000  # of a broker: beyond that its restart and a change of its leaders take long
CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_needed(services: Sequence[Service], cache_bytes: int) -> int:
    """Return the bytes that a process of these services may come to hold. `cache_bytes`: of decoded rows."""
    return PROCESS_BYTES + BLOCK_CACHE_BYTES + cache_bytes + len(services) * SERVICE_BYTES


def memory_there(meminfo: Path = Path("/proc/meminfo"), limits: Sequence[str] = CGROUP) -> int | None:
    """Return the bytes that this process may have: what is free, or less if its container may have less."""
    found: list[int] = []
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass  # no Linux
    for limit in limits:
        try:
            found.append(int(Path(limit).read_text()))
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
    return min(found, default=None)


def warn(services: Sequence[Service], cache_bytes: int, counts: Mapping[str, int], brokers: int) -> None:
    """Warn of too little memory, and of too many partitions. `counts`: the partitions of each topic."""
    need, there = memory_needed(services, cache_bytes), memory_there()
    if there is not None and need > there:
        log.warning(
            "this process may come to need %d MB of memory, and has %d MB: give it more, or fewer services with "
            "--service",
            *(need // MB, there // MB),
        )
    each = sum(counts.values()) // max(1, brokers)
    if each > PARTITIONS_MAX:
        log.warning(
            "the cluster has some %s partitions a broker, copies not counted, and more than %s make its restarts slow: "
            "give topics fewer partitions, or the cluster more brokers",
            *(f"{each:,}", f"{PARTITIONS_MAX:,}"),
        )

"""Compares actual with expected contents, and describes the differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pipeline.adapters.memory import MemoryRecord
from pipeline.engine.ports import TP
from pipeline.model import is_barrier

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World

Rows = Mapping[bytes, bytes]


def committed(world: World, tp: TP) -> list[MemoryRecord]:
    """Return all that was ever committed to a partition, in order, compacted away or not, without barriers."""
    log = world.kafka.topics[tp.topic].logs[tp.partition]
    return [r for r in log.archive if r.decided and not is_barrier(r.value(), r.headers())]


def rows_differ(where: str, due: Rows, there: Rows) -> Iterator[str]:
    """Yield findings about rows by key."""
    if due != there:
        for key in sorted({*due, *there}):
            want, have = due.get(key), there.get(key)
            if want != have:
                what = "lacks" if have is None else "still holds" if want is None else "is wrong about"
                yield f"{where} {what} {key!r}"

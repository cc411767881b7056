"""Compares actual with expected contents, and describes the differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.adapters.memory import MemoryRecord
from pipeline.engine.ports import TP
from pipeline.model import is_barrier
from pipeline.verify.report import sides

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World

Rows = Mapping[bytes, bytes]


def committed(world: World, tp: TP) -> list[MemoryRecord]:
    """Return all that was ever committed to a partition, in order, compacted away or not, without barriers."""
    log = world.kafka.topics[tp.topic].logs[tp.partition]
    return [r for r in log.archive if r.decided and not is_barrier(r.value(), r.headers())]


def rows_differ(where: str, due: Rows, there: Rows, decode: Callable[[bytes], Any] = repr) -> Iterator[str]:
    """Yield findings about rows by key."""
    if due != there:
        for key in sorted({*due, *there}):
            want, have = due.get(key), there.get(key)
            if want != have:
                if want is None or have is None:
                    yield f"{where} {'lacks' if have is None else 'still holds'} {key!r}"
                else:
                    expected, found, *_ = sides(decode(want), decode(have))
                    yield f"{where} is wrong about {key!r}: expected {expected}, found {found}"

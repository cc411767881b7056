"""Reads the tables that this process holds. Only committed rows are in them, so a read needs no lock."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.errors import TableUnavailable
from pipeline.model import StateMessage
from pipeline.runtime.tasks import ReadView


def row_json(value: Any) -> dict[str, Any]:
    """A table's value for JSON: the author's row, and version and time where it is an aggregate's state."""
    if isinstance(value, StateMessage):
        return {**row_json(value.body), "version": value.version, "time_ms": value.time_ms}
    return {"row": value._asdict() if hasattr(value, "_asdict") else dataclasses.asdict(value)}


class LocalTables:
    """The tables of the lanes in this process."""

    def __init__(self, views: Callable[[], Mapping[tuple[str, int], ReadView]]) -> None:
        self._views = views

    def holds(self, table: str, partition: int) -> bool:
        """Whether this worker is the one to ask for that partition."""
        view = self._views().get((table, partition))
        return view is not None and view.copy is None

    def age_s(self, table: str, partition: int) -> float | None:
        """How old what can be read here of that partition may be: 0 for its owner; None where nothing can be read."""
        view = self._views().get((table, partition))
        if view is None or view.restoring:
            return None
        return 0.0 if view.copy is None else view.copy.age_s()

    def _view(self, table: str, partition: int) -> ReadView:
        view = self._views().get((table, partition))
        if view is None:
            raise TableUnavailable(f"partition {partition} of {table!r} is not held by this worker")
        if view.restoring:
            raise TableUnavailable(f"partition {partition} of {table!r} is being restored; ask again")
        return view

    def pairs(self, table: str, partition: int, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, Any]]:
        """Up to `limit` keys and decoded values from the key `start` on, of those that begin with `prefix`."""
        view = self._view(table, partition)
        cut, decode = len(view.prefix), view.codec.decode
        rows = view.store.scan(view.prefix + prefix, view.prefix + start, limit)
        return [(key[cut:], decode(value)) for key, value in rows]

    def value(self, table: str, partition: int, key: bytes) -> Any:
        """The value under a key in bytes, decoded; None where there is none."""
        view = self._view(table, partition)
        data = view.store.get(view.prefix + key)
        return None if data is None else view.codec.decode(data)

    def values(self, table: str, partition: int, prefix: bytes, limit: int) -> list[tuple[bytes, Any]]:
        """Up to `limit` keys that begin so, in their order, each with its value, decoded."""
        view = self._view(table, partition)
        cut, start = len(view.prefix), view.prefix + prefix
        return [(k[cut:], view.codec.decode(v)) for k, v in view.store.scan(start, start, limit)]

    def get(self, table: str, partition: int, key: str) -> dict[str, Any] | None:
        """The row as JSON, or None where there is none."""
        value = self.value(table, partition, key.encode())
        return None if value is None else {"key": key, **row_json(value)}

    def scan(self, table: str, partition: int, prefix: str, after: str, limit: int) -> list[dict[str, Any]]:
        """Up to `limit` rows in key order whose key begins with `prefix` and comes after the key `after`."""
        view = self._view(table, partition)
        begin = view.prefix + after.encode() + (b"\0" if after else b"")
        pairs = view.store.scan(view.prefix + prefix.encode(), begin, limit)
        cut = len(view.prefix)
        return [{"key": k[cut:].decode(), **row_json(view.codec.decode(v))} for k, v in pairs]

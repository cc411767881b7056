"""Reads the tables that this process owns or copies. They hold committed rows only, so a read needs no lock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, NamedTuple

from pipeline.adapters.json.writing import row_json
from pipeline.engine.copies.read_view import ReadView
from pipeline.engine.state.indexes import entries_prefix
from pipeline.errors import TableUnavailable
from pipeline.model import StateMessage

Show = Callable[[str, Any], dict[str, Any]]  # makes JSON of a table's value, of that key


def _as_it_is(_: str, value: Any) -> dict[str, Any]:
    return row_json(value)


class Found(NamedTuple):
    """A row that was read. `tag`: changes with the row. `position`: the next offset to fold; None if unknown.

    `rows`: the row is current up to this offset of the table's row topic, exclusive; 0 if unknown.
    """

    row: dict[str, Any] | None
    tag: str
    position: int | None
    rows: int


def tag(value: Any, data: bytes | None) -> str:
    """Return a row's tag: the version of an aggregate, which commands expect, otherwise a digest."""
    if data is None:
        return ""
    return str(value.version) if isinstance(value, StateMessage) else blake2b(data, digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Range:
    """A range of rows: keys with `prefix`, after `after`, from `start` on and before `to`.

    Empty texts bound nothing. With `index`, only rows to which it gives `value`.
    """

    prefix: str = ""
    after: str = ""
    start: str = ""
    to: str = ""
    limit: int = 100
    index: str = ""
    value: str = ""

    def first(self) -> bytes:
        """Return the least key in the range."""
        return max(self.prefix.encode(), self.start.encode(), self.after.encode() + b"\0" if self.after else b"")

    def reaches(self, key: str) -> bool:
        """Return whether a key is before the range's end."""
        return not self.to or key.encode() < self.to.encode()

    def query(self) -> dict[str, str]:
        """Return the range as query parameters of a forwarded request."""
        texts = {"prefix": self.prefix, "after": self.after, "from": self.start, "to": self.to}
        index = {"index": self.index, "value": self.value} if self.index else {}
        return {"limit": str(self.limit), **{name: text for name, text in texts.items() if text}, **index}


def _marks(view: ReadView) -> tuple[int, int]:
    """Return the next offsets of the table's source and of its row topic."""
    return view.store.position(view.folded) or 0, (view.store.position(view.rows) or 0) if view.rows else 0


class LocalTables:
    """The tables of the lanes in this process."""

    def __init__(self, views: Callable[[], Mapping[tuple[str, int], ReadView]]) -> None:
        self._views = views

    def holds(self, table: str, partition: int) -> bool:
        """Return whether this worker owns that partition."""
        view = self._views().get((table, partition))
        return view is not None and view.copy is None

    def age_s(self, table: str, partition: int) -> float | None:
        """Return how old the local copy of a partition may be, in seconds: 0 for its owner, None if unknown."""
        view = self._views().get((table, partition))
        if view is None or view.restoring:
            return None
        if view.age_s is not None:
            return view.age_s()
        return 0.0 if view.copy is None else view.copy.age_s()

    def is_replica(self, table: str, partition: int) -> bool:
        """Return whether that is a replica, which each worker of the service has and none owns."""
        view = self._views().get((table, partition))
        return view is not None and view.age_s is not None

    def waits(self, table: str, partition: int) -> bool:
        """Return whether a read may have to wait for a database."""
        view = self._views().get((table, partition))
        return view is not None and view.shared

    def _view(self, table: str, partition: int) -> ReadView:
        view = self._views().get((table, partition))
        if view is None:
            raise TableUnavailable(f"partition {partition} of {table!r} is not held by this worker; ask again")
        if view.restoring:
            raise TableUnavailable(f"partition {partition} of {table!r} is being restored; ask again")
        if view.unbuilt is not None and (why := view.unbuilt()):
            raise TableUnavailable(why)
        return view

    def _row_view(self, table: str, partition: int, key: bytes) -> ReadView:
        """Return the view to read a row in. Raises CopyHeld if the row lacks events."""
        view = self._view(table, partition)
        if view.held and key in view.held:
            raise view.held.error(key)
        return view

    def pairs(self, table: str, partition: int, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, Any]]:
        """Return up to `limit` keys and decoded values from the key `start` on, of those that begin with `prefix`."""
        view = self._view(table, partition)
        cut, decode = len(view.prefix), view.codec.decode
        rows = view.store.scan(view.prefix + prefix, view.prefix + start, limit)
        return [(key[cut:], decode(value)) for key, value in rows]

    def value(self, table: str, partition: int, key: bytes) -> Any:
        """Return the decoded value under a key in bytes; None if there is none."""
        view = self._row_view(table, partition, key)
        data = view.store.get(view.prefix + key)
        return None if data is None else view.codec.decode(data)

    def position(self, table: str, partition: int) -> int:
        """Return the next offset of the table's source to fold here. Raises TableUnavailable."""
        view = self._view(table, partition)
        if view.copy is not None:
            raise TableUnavailable(f"partition {partition} of {table!r} is not held by this worker; ask again")
        return view.store.position(view.folded) or 0

    def rows(self, table: str, partition: int) -> int:
        """Return the next offset of the table's row topic that this copy does not contain. Raises TableUnavailable."""
        return _marks(self._view(table, partition))[1]

    def read(self, table: str, partition: int, key: str, show: Show = _as_it_is) -> Found:
        """Return the row, and the table's position when it was read."""
        view = self._row_view(table, partition, key.encode())
        at = view.prefix + key.encode()
        before = _marks(view)
        while True:  # until no checkpoint came in between
            data = view.store.get(at)
            if (after := _marks(view)) == before:
                break
            before = after
        folded, rows = before
        value = None if data is None else view.codec.decode(data)
        row = None if value is None else {"key": key, **show(key, value)}
        return Found(row, tag(value, data), None if view.copy is not None else folded, rows)

    def get(self, table: str, partition: int, key: str, show: Show = _as_it_is) -> dict[str, Any] | None:
        """Return the row as JSON; None if there is none."""
        value = self.value(table, partition, key.encode())
        return None if value is None else {"key": key, **show(key, value)}

    def scan(
        self,
        table: str,
        partition: int,
        wanted: Range,
        index_of: Callable[[Any], str | None] | None = None,
        show: Show = _as_it_is,
    ) -> list[dict[str, Any]]:
        """Return rows of one partition, in key order. `index_of`: the function of the range's index."""
        view = self._view(table, partition)
        if index_of is not None:
            return self._by_index(view, table, wanted, index_of)
        pairs = view.store.scan(view.prefix + wanted.prefix.encode(), view.prefix + wanted.first(), wanted.limit)
        if view.held:
            is_full = len(pairs) == wanted.limit
            end = pairs[-1][0][len(view.prefix) :] + b"\0" if is_full else wanted.to.encode()
            view.held.check(wanted.first(), end, wanted.prefix.encode())
        rows = ((key[len(view.prefix) :].decode(), data) for key, data in pairs)
        return [{"key": key, **show(key, view.codec.decode(data))} for key, data in rows if wanted.reaches(key)]

    def _by_index(
        self, view: ReadView, table: str, wanted: Range, index_of: Callable[[Any], str | None]
    ) -> list[dict[str, Any]]:
        base = entries_prefix(table, wanted.index, wanted.value)
        found: list[dict[str, Any]] = []
        while len(found) < wanted.limit:
            limit = wanted.limit - len(found)
            entries = view.store.scan(base + wanted.prefix.encode(), base + wanted.first(), limit)
            for key in (entry[len(base) :].decode() for entry, _ in entries):
                wanted = replace(wanted, after=key)
                data = view.store.get(view.prefix + key.encode())
                value = None if data is None else view.codec.decode(data)
                # The row may have changed since its entry was read.
                if value is not None and wanted.reaches(key) and index_of(value) == wanted.value:
                    found.append({"key": key, **row_json(value)})
            if len(entries) < limit:
                break
        return found

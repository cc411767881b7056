"""What the local history of one partition says of a key. Nothing is scanned but the key's own events.

Rows, each key led by its length so that no key begins like another; the newest version of a key stands first, so that
its last version takes one look:

- `event`, key, version: the event's bytes as they stand on the topic
- `state`, key, version: the state after every so many events, so that a state of then is folded from few
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.engine.ports import Store
from pipeline.engine.state.row_keys import join_key
from pipeline.engine.state.table import RowCodec
from pipeline.errors import HistoryIncomplete
from pipeline.flow import events_to_state, version_at
from pipeline.model import Aggregate, EventMessage, StateMessage

EVENT, STATE = b"event\0", b"state\0"
VERSION_MAX = 2**64 - 1


class HistorySpec(NamedTuple):
    """An aggregate's event log, by its topic, how its events and states are written, and the topic of the states."""

    aggregate: Aggregate[Any, Any, Any]
    topic: str
    events: RowCodec
    states: RowCodec
    states_topic: str


def of_key(kind: bytes, key: bytes) -> bytes:
    """What the rows of that kind begin with that belong to a key."""
    return kind + join_key(key)


def at_version(kind: bytes, key: bytes, version: int) -> bytes:
    """The key of a row."""
    return of_key(kind, key) + (VERSION_MAX - version).to_bytes(8, "big")


def version_of(row: bytes) -> int:
    """The version in the key of a row."""
    return VERSION_MAX - int.from_bytes(row[-8:], "big")


class HistoryReader:
    """Reads the history of one partition. Safe from any thread; may raise TableUnavailable and StoreDamaged."""

    def __init__(self, spec: HistorySpec, store: Store) -> None:
        self.spec, self.store = spec, store

    def last(self, key: bytes) -> int:
        """The last version of a key that the history holds; 0 if it holds none."""
        prefix = of_key(EVENT, key)
        found = self.store.scan(prefix, prefix, 1)
        return version_of(found[0][0]) if found else 0

    def first(self, key: bytes) -> int:
        """The first version that it holds: 1, unless the beginning of the log is gone; 0 if it holds none."""
        last = self.last(key)
        if last <= 1 or self._has(key, 1):
            return min(last, 1)
        missing, there = 1, last
        while there - missing > 1:
            middle = (missing + there) // 2
            if self._has(key, middle):
                there = middle
            else:
                missing = middle
        return there

    def events(self, key: bytes, after: int, limit: int) -> list[EventMessage]:
        """Read the events of a key in the order of their versions: of the `limit` versions that come after `after`."""
        prefix = of_key(EVENT, key)
        rows = self.store.scan(prefix, at_version(EVENT, key, after + limit), limit)
        return [self.spec.events.decode(data) for row, data in reversed(rows) if version_of(row) > after]

    def state(self, key: bytes, version: int) -> StateMessage | None:
        """The state at a version, at most `last`: None at version 0, which is before the first event.

        Raises HistoryIncomplete if the log does not hold the events any more that it is folded from.
        """
        found = self.store.scan(of_key(STATE, key), at_version(STATE, key, version), 1)
        state: StateMessage | None = self.spec.states.decode(found[0][1]) if found else None
        begin = 0 if state is None else state.version
        if version == begin:
            return state
        state = events_to_state(self.spec.aggregate, key, state, self.events(key, begin, version - begin))
        if state is None or state.version != version:
            raise HistoryIncomplete(f"version {version} is missing")
        return state

    def version_at(self, key: bytes, time_ms: int) -> int:
        """The version that a key had at a time, in milliseconds since the epoch; 0 before its first event.

        Raises HistoryIncomplete if the log does not reach back so far.
        """
        first, last = self.first(key), self.last(key)
        if not first:
            return 0
        version = version_at(time_ms, first, last, lambda at: self._time_of(key, at))
        if 0 < version < first:
            raise HistoryIncomplete(f"the event log begins at version {first}, which is later")
        return version

    def _has(self, key: bytes, version: int) -> bool:
        return self.store.get(at_version(EVENT, key, version)) is not None

    def _time_of(self, key: bytes, version: int) -> int:
        data = self.store.get(at_version(EVENT, key, version))
        if data is None:
            raise HistoryIncomplete(f"version {version} is missing")
        event: EventMessage = self.spec.events.decode(data)
        return event.time_ms

"""What the local history of one partition says of a key. Nothing is scanned but the key's own events.

Rows, each key led by its length so that no key begins like another:

- `event`, key, version: the event's bytes as they stand on the topic
- `state`, key, version: the state after every so many events, so that a state of then is folded from few
- `head`, key: the key's last version
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.errors import HistoryIncomplete
from pipeline.flow import events_to_state, version_at
from pipeline.model import Aggregate, EventMessage, StateMessage
from pipeline.runtime.ports import Store
from pipeline.runtime.table import RowCodec

EVENT, STATE, HEAD = b"event\0", b"state\0", b"head\0"


class HistorySpec(NamedTuple):
    """The history that an aggregate has: its event log, and how its events and states are written."""

    aggregate: Aggregate[Any, Any, Any]
    topic: str
    events: RowCodec
    states: RowCodec


def of_key(kind: bytes, key: bytes) -> bytes:
    """What the rows of that kind begin with that belong to a key."""
    return kind + len(key).to_bytes(4, "big") + key


def at_version(kind: bytes, key: bytes, version: int) -> bytes:
    """The key of a row."""
    return of_key(kind, key) + version.to_bytes(8, "big")


class Past:
    """Reads the history of one partition. Safe from any thread; every call may raise TableUnavailable or StoreDamaged.

    `snapshot_every`: how many events of a key lie between two of its states.
    """

    def __init__(self, spec: HistorySpec, store: Store, snapshot_every: int) -> None:
        self.spec, self.store, self.snapshot_every = spec, store, snapshot_every

    def last(self, key: bytes) -> int:
        """The last version of a key that the history holds; 0 where it holds none."""
        data = self.store.get(of_key(HEAD, key))
        return 0 if data is None else int.from_bytes(data, "big")

    def first(self, key: bytes) -> int:
        """The first version that it holds: 1, unless the beginning of the log is gone; 0 where it holds none."""
        prefix = of_key(EVENT, key)
        found = self.store.scan(prefix, prefix, 1)
        return int.from_bytes(found[0][0][len(prefix) :], "big") if found else 0

    def events(self, key: bytes, after: int, limit: int) -> list[EventMessage]:
        """Up to `limit` events of a key in the order of their versions, from the one that comes after `after`."""
        prefix = of_key(EVENT, key)
        rows = self.store.scan(prefix, at_version(EVENT, key, after + 1), limit)
        return [self.spec.events.decode(data) for _, data in rows]

    def state(self, key: bytes, version: int) -> StateMessage | None:
        """The state at a version, at most `last`: None at version 0, which is before the first event.

        Raises HistoryIncomplete where the log does not hold the events any more that it is folded from.
        """
        state = None
        for at in range(version // self.snapshot_every * self.snapshot_every, 0, -self.snapshot_every):
            data = self.store.get(at_version(STATE, key, at))
            if data is not None:
                state = self.spec.states.decode(data)
                break
        begin = 0 if state is None else state.version
        if version == begin:
            return state
        state = events_to_state(self.spec.aggregate, state, self.events(key, begin, version - begin))
        if state is None or state.version != version:
            raise HistoryIncomplete(f"version {version} is missing")
        return state

    def version_at(self, key: bytes, time_ms: int) -> int:
        """The version that a key had at a time, in milliseconds since the epoch; 0 before its first event.

        Raises HistoryIncomplete where the log does not reach back so far.
        """
        first, last = self.first(key), self.last(key)
        if not first:
            return 0
        version = version_at(time_ms, first, last, lambda at: self._time_of(key, at))
        if 0 < version < first:
            raise HistoryIncomplete(f"the event log begins at version {first}, which is later")
        return version

    def _time_of(self, key: bytes, version: int) -> int:
        data = self.store.get(at_version(EVENT, key, version))
        if data is None:
            raise HistoryIncomplete(f"version {version} is missing")
        event: EventMessage = self.spec.events.decode(data)
        return event.time_ms

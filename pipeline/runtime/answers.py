"""The memory of a command partition: the replies given, by aggregate id and command id, until they may be forgotten.

Its changelog is not compacted: each reply stands there once, and goes by age. Locally, a reply stands under its key
and, for forgetting, in the order in which the commands were stored.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from pipeline.flow import keep_ms
from pipeline.model import Idempotency, ReplyMessage
from pipeline.runtime.ports import Store
from pipeline.runtime.table import Pairs, Table, TableSpec, table_prefix

LOOK_AHEAD = 1_000  # places in the order that are read at once


class Place(NamedTuple):
    """Where a reply stands in the order."""

    offset: int
    time_ms: int
    key: bytes


def answer_key(key: bytes, command_id: str) -> bytes:
    """Key of a reply: no other aggregate id and command id have the same."""
    return len(key).to_bytes(2, "big") + key + command_id.encode()


def order_prefix(name: str) -> bytes:
    """What the keys of the order begin with, which is local and made from the replies."""
    return table_prefix(f"{name}.order")


def place_row(prefix: bytes, place: Place) -> tuple[bytes, bytes]:
    """A place in the order, as it is kept."""
    return prefix + place.offset.to_bytes(8, "big"), place.time_ms.to_bytes(8, "big") + place.key


def answer_rows(spec: TableSpec, pairs: Pairs) -> Pairs:
    """What the local store keeps of records of the changelog: the replies, and their places."""
    prefix, order = spec.prefix, order_prefix(spec.name)
    rows: list[tuple[bytes, bytes | None]] = [(prefix + key, value) for key, value in pairs]
    for key, value in pairs:
        reply = spec.codec.decode(value)
        rows.append(place_row(order, Place(reply.offset, reply.time_ms, key)))
    return rows


class Answers(Table):
    """The replies of one partition.

    What is forgotten when follows from the commands' offsets and times alone, so that it is the same wherever they are
    folded, and however often.
    """

    cached = False  # most ids are new ones, and nothing is known of them

    def __init__(self, idempotency: Idempotency, spec: TableSpec, store: Store) -> None:
        super().__init__(spec, store)
        self.idempotency = idempotency
        self._keep_ms = keep_ms(idempotency)
        self._order = order_prefix(spec.name)
        self._mark = f"forgotten:{spec.name}"
        self._replies: dict[bytes, bytes] = {}  # given since the last commit
        self._places: list[Place] = []  # theirs
        self._next_place = 0  # the first of them that is not forgotten
        self._ahead: deque[Place] = deque()  # the oldest committed ones that are not forgotten
        self._read_from = self._committed_from = 0  # the offset behind the last of them; behind the last forgotten one
        self._all_read = False  # whether the store holds no place behind them
        self._gone: list[Place] = []  # forgotten since the last commit
        self._forgotten_ms = self._committed_ms = store.position(self._mark) or 0

    def at(self, offset: int, time_ms: int) -> int:
        """Forgets what is too old for the command stored there and then.

        Returns when the last command was stored that has been forgotten, 0 where none was.
        """
        while (oldest := self._oldest()) is not None and self._is_old(oldest.offset, oldest.time_ms, offset, time_ms):
            self._gone.append(oldest)
            self._forgotten_ms = max(self._forgotten_ms, oldest.time_ms)
            if self._ahead:
                self._ahead.popleft()
            else:
                self._next_place += 1
        return self._forgotten_ms

    def find(self, name: bytes, offset: int, time_ms: int) -> tuple[ReplyMessage, bytes] | None:
        """The reply under that key, decoded and as it stands, unless it is too old for the command stored there."""
        data = self._replies.get(name)
        if data is None and (data := self.store.get(self.prefix + name)) is None:
            return None
        reply: ReplyMessage = self.codec.decode(data)
        return None if self._is_old(reply.offset, reply.time_ms, offset, time_ms) else (reply, data)

    def remember(self, name: bytes, data: bytes, offset: int, time_ms: int) -> None:
        """Keeps a reply."""
        self._replies[name] = data
        self._places.append(Place(offset, time_ms, name))

    def _is_old(self, offset: int, time_ms: int, now_offset: int, now_ms: int) -> bool:
        return offset <= now_offset - self.idempotency.records or time_ms < now_ms - self._keep_ms

    def _oldest(self) -> Place | None:
        if not self._ahead and not self._all_read:
            rows = self.store.scan(self._order, self._order + self._read_from.to_bytes(8, "big"), LOOK_AHEAD)
            cut = len(self._order)
            self._ahead.extend(
                Place(int.from_bytes(row[cut:], "big"), int.from_bytes(value[:8], "big"), value[8:])
                for row, value in rows
            )
            self._all_read = len(rows) < LOOK_AHEAD
            if self._ahead:
                self._read_from = self._ahead[-1].offset + 1
        if self._ahead:
            return self._ahead[0]
        return self._places[self._next_place] if self._next_place < len(self._places) else None

    # --- Table --------------------------------------------------------------------------------------------------------

    def changes(self) -> list[tuple[bytes, bytes | None]]:
        """The replies given since the checkpoint."""
        return list(self._replies.items())

    def kept(self, pairs: Pairs) -> tuple[Pairs, dict[str, int]]:
        """The replies and their places; what is forgotten is deleted."""
        rows: list[tuple[bytes, bytes | None]] = [(self.prefix + key, value) for key, value in pairs]
        rows += [place_row(self._order, place) for place in self._places]
        for place in self._gone:
            rows.append((self._order + place.offset.to_bytes(8, "big"), None))
            if not self._is_given_anew(place):
                rows.append((self.prefix + place.key, None))
        return rows, {self._mark: self._forgotten_ms} if self._gone else {}

    def _is_given_anew(self, place: Place) -> bool:
        """Whether the id has come again since, and was answered as a new one."""
        data = self._replies.get(place.key) or self.store.get(self.prefix + place.key)
        return data is not None and self.codec.decode(data).offset != place.offset

    def settle(self) -> None:
        if self._gone:
            self._committed_from = self._gone[-1].offset + 1
            self._committed_ms = self._forgotten_ms
        if self._replies:
            self._all_read = False
        self._clear()

    def drop(self) -> None:
        self._ahead.clear()
        self._read_from, self._forgotten_ms, self._all_read = self._committed_from, self._committed_ms, False
        self._clear()

    def _clear(self) -> None:
        self._replies.clear()
        self._places.clear()
        self._gone.clear()
        self._next_place = 0

"""The memory of a command partition: the replies given, by aggregate id and command id, until they may be forgotten.

Its changelog is not compacted: each reply stands there once, and goes by age. Locally, a reply stands under its key
and, for forgetting, in the order in which the commands were stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from pipeline.engine.ports import Store
from pipeline.engine.state.row_keys import join_key, order_prefix
from pipeline.engine.state.table import Pairs, Table, TableSpec
from pipeline.flow import is_old, last_issue_ms
from pipeline.model import Idempotency, ReplyMessage

LOOK_AHEAD = 1_000  # places in the order that are read at once


class ReplyPlace(NamedTuple):
    """Where a reply stands in the order. `issued_ms`: when its command was issued, by its sender's clock."""

    offset: int
    time_ms: int
    issued_ms: int
    key: bytes
    own: int = -1  # of a command that was parked: its own offset, as several may be placed at one

    @property
    def row(self) -> bytes:
        """The key in the order."""
        return self.offset.to_bytes(8, "big") + (b"" if self.own < 0 else self.own.to_bytes(8, "big"))

    @property
    def behind(self) -> int:
        """The offset from which the order has to be read once this is gone."""
        return self.offset + (self.own < 0)


def reply_key(key: bytes, command_id: str) -> bytes:
    """Key of a reply: no other aggregate id and command id have the same."""
    return join_key(key, command_id.encode())


def place_row(prefix: bytes, place: ReplyPlace) -> tuple[bytes, bytes]:
    """A place in the order, as it is kept."""
    times = place.time_ms.to_bytes(8, "big") + place.issued_ms.to_bytes(8, "big", signed=True)
    return prefix + place.row, times + place.key


def from_offset(offset: int) -> bytes:
    """Where the order begins to be read for the places from that offset on."""
    return offset.to_bytes(8, "big")


def places(store: Store, prefix: bytes, start: bytes) -> list[ReplyPlace]:
    """The first places from `start` on, `LOOK_AHEAD` at most."""
    rows = store.scan(prefix, prefix + start, LOOK_AHEAD)
    cut, number = len(prefix), int.from_bytes
    return [
        ReplyPlace(
            number(row[cut : cut + 8], "big"),
            number(v[:8], "big"),
            number(v[8:16], "big", signed=True),
            v[16:],
            number(row[cut + 8 :], "big") if len(row) > cut + 8 else -1,
        )
        for row, v in rows
    ]


def place_of(reply: ReplyMessage, key: bytes) -> ReplyPlace:
    """From where on a reply is remembered."""
    return ReplyPlace(*reply.place, reply.issued_ms, key, -1 if reply.placed_offset < 0 else reply.offset)


def reply_rows(spec: TableSpec, store: Store, pairs: Pairs) -> Pairs:
    """What the local store keeps of records of the changelog: the replies, and their places."""
    prefix, order = spec.prefix, order_prefix(spec.name)
    rows: list[tuple[bytes, bytes | None]] = [(prefix + key, value) for key, value in pairs]
    for key, value in pairs:
        reply = spec.codec.decode(value)
        rows.append(place_row(order, place_of(reply, key)))
    return rows


def forgotten_mark(name: str) -> str:
    """Name of the position that holds when the last command was stored, or issued, whose reply is forgotten."""
    return f"forgotten:{name}"


def begin_mark(name: str) -> str:
    """Name of the position that holds the offset behind the last reply that is forgotten."""
    return f"begin:{name}"


def latest_mark(name: str) -> str:
    """Name of the position that holds the latest time at which a command was stored."""
    return f"latest:{name}"


def forget(spec: TableSpec, store: Store, gone: Sequence[ReplyPlace], fresh: Mapping[bytes, bytes]) -> Pairs:
    """What deletes these replies; one whose id has been answered anew since stays. `fresh`: not in the store yet."""
    order, rows = order_prefix(spec.name), list[tuple[bytes, bytes | None]]()
    for place in gone:
        rows.append((order + place.row, None))
        data = fresh.get(place.key) or store.get(spec.prefix + place.key)
        if data is None or place_of(spec.codec.decode(data), place.key).row == place.row:
            rows.append((spec.prefix + place.key, None))
    return rows


def trim_copy(idempotency: Idempotency, spec: TableSpec, store: Store, now: bytes) -> bool:
    """Forget in a copy what its owner had forgotten by the reply `now`, a part at a time. False if there was none."""
    reply: ReplyMessage = spec.codec.decode(now)
    offset, time_ms = reply.place
    if time_ms > (store.position(latest_mark(spec.name)) or 0):
        store.write([], {latest_mark(spec.name): time_ms})
    ahead = places(store, order_prefix(spec.name), from_offset(store.position(begin_mark(spec.name)) or 0))
    old = takewhile(lambda p: is_old(idempotency, p.offset, p.time_ms, offset, time_ms), ahead)
    if not (gone := list(old)):
        return False
    last_ms = max(
        store.position(forgotten_mark(spec.name)) or 0, *(last_issue_ms(p.time_ms, p.issued_ms) for p in gone)
    )
    marks = {forgotten_mark(spec.name): last_ms, begin_mark(spec.name): gone[-1].behind}
    store.write(forget(spec, store, gone, {}), marks)
    return True


class ReplyTable(Table):
    """The replies of one partition.

    What is forgotten when follows from the commands' offsets and times alone, so that it is the same wherever they are
    folded, and however often.
    """

    cached = False  # most ids are new ones, and nothing is known of them

    def __init__(self, idempotency: Idempotency, spec: TableSpec, store: Store) -> None:
        super().__init__(spec, store)
        self.idempotency = idempotency
        self._order = order_prefix(spec.name)
        self._replies: dict[bytes, bytes] = {}  # given since the last commit
        self._given: list[tuple[bytes, bytes | None]] = []  # the same in order, with those given anew since
        self._places: list[ReplyPlace] = []  # theirs
        self._next_place = 0  # the first of them that is not forgotten
        self._ahead: deque[ReplyPlace] = deque()  # the oldest committed ones that are not forgotten
        self._read_from = b""  # behind the last of them
        self._committed_from = -1  # the offset behind the last forgotten one; -1 until it is read
        self._all_read = False  # whether the store holds no place behind them
        self._gone: list[ReplyPlace] = []  # forgotten since the last commit
        self._forgotten_ms = self._committed_ms = 0
        self._latest_ms = self._committed_latest_ms = 0

    def _load(self) -> None:
        """Read how far things are; not before it is needed: until a task starts, its tables are being restored."""
        if self._committed_from < 0:
            name, position = self.spec.name, self.store.position
            self._committed_from = position(begin_mark(name)) or 0
            self._read_from = from_offset(self._committed_from)
            self._committed_ms = self._forgotten_ms = position(forgotten_mark(name)) or 0
            self._committed_latest_ms = self._latest_ms = position(latest_mark(name)) or 0

    @property
    def latest_ms(self) -> int:
        """The latest time at which a command was stored, of those that have come."""
        self._load()
        return self._latest_ms

    @property
    def forgotten_ms(self) -> int:
        """See `expire_up_to`."""
        self._load()
        return self._forgotten_ms

    def expire_up_to(self, offset: int, time_ms: int) -> int:
        """Expire replies older than the window of the command stored at `offset`.

        Return the latest stored or issued time among all expired commands; 0 if none has expired.
        """
        self._load()
        if time_ms > self._latest_ms:
            self._latest_ms = time_ms
        while (oldest := self._oldest()) is not None and self._is_old(oldest.offset, oldest.time_ms, offset, time_ms):
            self._gone.append(oldest)
            self._forgotten_ms = max(self._forgotten_ms, last_issue_ms(oldest.time_ms, oldest.issued_ms))
            if self._ahead:
                self._ahead.popleft()
            else:
                self._next_place += 1
        return self._forgotten_ms

    def find(self, name: bytes, offset: int, time_ms: int) -> tuple[ReplyMessage, bytes] | None:
        """The reply under that key, decoded and as bytes; None if there is none, or it has expired by `offset`."""
        data = self._replies.get(name)
        if data is None and (data := self.store.get(self.prefix + name)) is None:
            return None
        reply: ReplyMessage = self.codec.decode(data)
        return None if self._is_old(*reply.place, offset, time_ms) else (reply, data)

    def add(self, name: bytes, data: bytes, offset: int, time_ms: int, issued_ms: int, own: int = -1) -> None:
        """Store a reply as given at `offset`. `own`: the offset of the command itself, if it was parked."""
        self._replies[name] = data
        self._given.append((name, data))
        self._places.append(ReplyPlace(offset, time_ms, issued_ms, name, own))

    def _is_old(self, offset: int, time_ms: int, now_offset: int, now_ms: int) -> bool:
        return is_old(self.idempotency, offset, time_ms, now_offset, now_ms)

    def _oldest(self) -> ReplyPlace | None:
        if not self._ahead and not self._all_read:
            ahead = places(self.store, self._order, self._read_from)
            self._ahead.extend(ahead)
            self._all_read = len(ahead) < LOOK_AHEAD
            if self._ahead:
                self._read_from = self._ahead[-1].row + b"\0"
        if self._ahead:
            return self._ahead[0]
        return self._places[self._next_place] if self._next_place < len(self._places) else None

    # --- Table --------------------------------------------------------------------------------------------------------

    def changes(self) -> list[tuple[bytes, bytes | None]]:
        """The replies given since the checkpoint."""
        return list(self._given)

    def kept(self, pairs: Pairs) -> tuple[Pairs, dict[str, int]]:
        """The replies and their places; what is forgotten is deleted."""
        rows: list[tuple[bytes, bytes | None]] = [(self.prefix + key, value) for key, value in pairs]
        rows += [place_row(self._order, place) for place in self._places]
        name = self.spec.name
        marks = {latest_mark(name): self._latest_ms} if self._latest_ms > self._committed_latest_ms else {}
        if self._gone:
            rows += forget(self.spec, self.store, self._gone, self._replies)
            marks |= {forgotten_mark(name): self._forgotten_ms, begin_mark(name): self._gone[-1].behind}
        return rows, marks

    def mark_committed(self) -> None:
        if self._gone:
            self._committed_from = self._gone[-1].behind
            self._committed_ms = self._forgotten_ms
        self._committed_latest_ms = self._latest_ms
        if self._replies:
            self._all_read = False
        if any(place.own >= 0 for place in self._places):  # it may stand before what was read ahead
            self._read_again()
        self._clear()

    def roll_back(self) -> None:
        self._read_again()
        self._forgotten_ms, self._latest_ms = self._committed_ms, self._committed_latest_ms
        self._clear()

    def _read_again(self) -> None:
        self._ahead.clear()
        self._read_from, self._all_read = from_offset(max(0, self._committed_from)), False

    def _clear(self) -> None:
        self._replies.clear()
        self._given.clear()
        self._places.clear()
        self._gone.clear()
        self._next_place = 0

"""What the aggregates of one partition are to be sent later: a table by aggregate id and name, and in order of time.

The order is local and made from the rows, so that what is due is one short scan. In memory are only the time of the
next and the changes since the last commit, however many there are.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.engine.ports import Store
from pipeline.engine.state.cache import MISSING
from pipeline.engine.state.row_keys import join_key, order_prefix, scan_all, split_key
from pipeline.engine.state.table import Pairs, Table, TableSpec
from pipeline.flow.command_to_deadline import SCHEDULED
from pipeline.model import NEVER, DeadlineMessage

LOOK_AHEAD = 100  # places in the order that are read at once


def deadline_key(key: bytes, name: str) -> bytes:
    """Key of a row: no other aggregate id and name have the same, and those of one aggregate stand together.

    `name`: PREFIX and a deadline's name, or SCHEDULED and a command's id.
    """
    return join_key(key, name.encode())


def parts(row_key: bytes) -> tuple[bytes, str]:
    """The aggregate id and the name in the key of a row."""
    key, name = split_key(row_key)
    return key, name.decode()


def deadline_rows(spec: TableSpec, store: Store, pairs: Pairs) -> Pairs:
    """What the local store keeps of records of the changelog: the rows, and the place of each in the order of time."""
    prefix, order = spec.prefix, order_prefix(spec.name)
    rows: list[tuple[bytes, bytes | None]] = []
    fresh: dict[bytes, bytes | None] = {}
    for key, value in pairs:
        before = fresh[key] if key in fresh else store.get(prefix + key)
        if before is not None:
            rows.append((_place(order, spec.codec.decode(before).due_ms) + key, None))
        if value is not None:
            rows.append((_place(order, spec.codec.decode(value).due_ms) + key, b""))
        rows.append((prefix + key, value))
        fresh[key] = value
    return rows


def _place(order: bytes, due_ms: int) -> bytes:
    return order + min(max(due_ms, 0), NEVER).to_bytes(8, "big")


class Fired(NamedTuple):
    """What is to be sent now. `due_ms`: when it was due."""

    key: bytes
    command: bytes
    due_ms: int


class Deadlines(Table):
    """The rows of one partition.

    `active`: whether there may be any; `next_ms`: nothing is due before. Both may be told too soon, never too late.
    """

    cached = False  # each is looked at once or twice

    def __init__(self, spec: TableSpec, store: Store) -> None:
        super().__init__(spec, store)
        self._order = order_prefix(spec.name)
        self._from = self._at = self._order  # the order holds nothing before, committed; and with what was taken since
        self._first_ms = NEVER  # the earliest that was put since the last commit
        self._count = self._change = 0
        self._counted = False
        self.active, self.next_ms = True, 0

    @property
    def pending(self) -> int:
        """How many rows are committed."""
        return self._count

    def get(self, key: bytes) -> DeadlineMessage | None:
        row = self._changed.get(key, MISSING)
        if row is MISSING:
            data = self.store.get(self.prefix + key)
            row = None if data is None else self.codec.decode(data)
        found: DeadlineMessage | None = row
        return found

    def put(self, key: bytes, row: DeadlineMessage | None) -> None:
        self._changed[key] = row
        if row is not None:
            self.active, self._first_ms = True, min(self._first_ms, row.due_ms)

    def take(self, now_ms: int, most: int) -> list[Fired]:
        """Up to `most` of what is committed and due, in order of time. A deadline's row is deleted with that.

        A scheduled command's stays until it is decided: what its id stands for is then the same wherever commands that
        come meanwhile are folded, however late they are. Not before the task has started.
        """
        if not self._counted:
            self._begin()
        fired: list[Fired] = []
        while now_ms >= self.next_ms and len(fired) < most:
            wanted = min(LOOK_AHEAD, most - len(fired))
            ahead = self.store.scan(self._order, self._at, wanted)
            for place, _ in ahead:
                due_ms, row_key = self._read_place(place)
                if due_ms > now_ms:
                    self._at, self.next_ms = place, due_ms
                    return fired
                self._at = place + b"\0"
                if row_key not in self._changed:
                    fired.append(self._take(row_key, due_ms))
            if len(ahead) < wanted:
                self.next_ms = NEVER
        return fired

    def _read_place(self, place: bytes) -> tuple[int, bytes]:
        cut = len(self._order)
        return int.from_bytes(place[cut : cut + 8], "big"), place[cut + 8 :]

    def _take(self, row_key: bytes, due_ms: int) -> Fired:
        row: DeadlineMessage = self.codec.decode(self.store.get(self.prefix + row_key))
        key, name = parts(row_key)
        self._changed[row_key] = row._replace(due_ms=NEVER) if name.startswith(SCHEDULED) else None
        return Fired(key, row.command, due_ms)

    def _begin(self) -> None:
        """Count the rows."""
        self._count += sum(1 for _ in scan_all(self.store, self._order))
        self._counted, self.active = True, self._count > 0 or bool(self._changed)

    # --- Table --------------------------------------------------------------------------------------------------------

    def kept(self, pairs: Pairs) -> tuple[Pairs, dict[str, int]]:
        rows = self.spec.rows(self.spec, self.store, pairs)
        self._change = sum(-1 if value is None else 1 for key, value in rows if key.startswith(self._order))
        return rows, {}

    def mark_committed(self) -> None:
        self._changed.clear()
        if self._counted:
            self._count += self._change
            self.active = self._count > 0
        self._at = self._from = min(self._at, _place(self._order, self._first_ms))
        self.next_ms, self._first_ms, self._change = min(self.next_ms, self._first_ms), NEVER, 0

    def roll_back(self) -> None:
        self._changed.clear()
        self._at, self.next_ms, self._first_ms, self._change = self._from, 0, NEVER, 0
        self.active = self._count > 0 or not self._counted

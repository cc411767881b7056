"""A client's own copy of rows that it has read: kept for as long as the row topic has no newer one.

An answer says how far the table's row topic is in it. From there on the topic is followed, so the copy of a row is good
up to wherever that has got, until a record of its key comes by. What a token needs is learned from answers, too: one
that contained it says at which place of the row topic that is so. No threads here; see `Near`.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pipeline.client.near_cache.cached_partition import Row, Shelf, Ticket
from pipeline.client.owner_request import Answer
from pipeline.client.wire.read_options import Level, Reading
from pipeline.engine.ports import TP, LogReader
from pipeline.errors import UnknownKey
from pipeline.flow import Lineage
from pipeline.model import Token

ROWS = "x-pipeline-row-position"
POSITION = "x-pipeline-position"
ENTRY_BYTES = 300  # of a row, beside its key and its text
LOOK_S = 1.0  # how often it is asked where the row topics end
AGE_S_MAX = 60.0  # what may lack so much is dropped: it may have missed that a deletion was cleaned away
RECORDS = 2_000


class Figures(NamedTuple):
    """What the cache has done. `behind`: reads of a row that is there, but not known to be new enough.

    `age_s`: for how long the copies may lack something, at most; None where nothing is kept.
    """

    hits: int
    misses: int
    behind: int
    invalidated: int
    evicted: int
    rows: int
    bytes: int
    age_s: float | None

    @property
    def hit_rate(self) -> float:
        """The share of reads answered from here, of those that a cache may answer."""
        return self.hits / max(1, self.hits + self.misses + self.behind)


class NearCache:
    """Rows of at most `limit` bytes. Safe to use from several threads; `step` from one.

    `names`: see Topology. `clock`: seconds.
    """

    def __init__(
        self,
        limit: int,
        lineage: Lineage,
        names: Mapping[str, str],
        clock: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._limit, self._lineage, self._names, self._clock, self._wake = limit, lineage, names, clock, wake
        self._lock = threading.Lock()
        self._shelves: dict[TP, Shelf] = {}
        self._used: OrderedDict[tuple[TP, str], int] = OrderedDict()  # least recently used first; size
        self._bytes = 0
        self._hits = self._misses = self._behind = self._invalidated = self._evicted = 0
        self._following: dict[TP, Shelf] = {}  # of the reader: for which shelf
        self._looked_s = 0.0

    # --- readers ------------------------------------------------------------------------------------------------------

    def find(self, table: str, partition: int, key: str, asked: Reading) -> dict[str, Any] | None:
        """The row as a worker would answer, with its `position`; None where a worker has to be asked.

        Raises UnknownKey where it is known that there is none.
        """
        if not self._may_answer(table, asked):
            return None
        with self._lock:
            tp = self._tp(table, partition)
            shelf = self._shelves.get(tp)
            row = shelf.rows.get(key) if shelf else None
            if shelf is None or row is None:
                self._misses += 1
                return None
            upto = max(shelf.followed, row.at)
            age_s = self._clock() - max(shelf.level_s, row.level_s)
            if not (
                age_s <= min(asked.max_age_s, AGE_S_MAX)
                if asked.eventual
                else self._contains(shelf, partition, asked.at_least, upto)
            ):
                self._behind += 1
                return None
            self._hits += 1
            self._used.move_to_end((tp, key))
            home = self._lineage.home(table), partition
            offset = shelf.contained(home, upto)
        if not row.there:
            raise UnknownKey(row.text)
        position = Token() if offset is None else Token.of({home: offset})
        found = {**json.loads(row.text), "position": position}
        return {**found, "age_s": age_s} if asked.eventual else found

    def ask(self, table: str, partition: int, key: str) -> Ticket:
        """A worker is about to be asked; `keep` or `forget` has to follow."""
        with self._lock:
            shelf = self._shelves.get(self._tp(table, partition))
            ticket = Ticket(shelf, self._clock())
            if shelf is not None:
                ticket.since = shelf.brought
                shelf.asking[key].append(ticket)
            return ticket

    def forget(self, ticket: Ticket, key: str) -> None:
        """The question has come to its end."""
        with self._lock:
            if ticket.shelf is not None:
                tickets = ticket.shelf.asking[key]
                tickets[:] = [other for other in tickets if other is not ticket]
                if not tickets:
                    del ticket.shelf.asking[key]

    def keep(self, ticket: Ticket, table: str, partition: int, key: str, asked: Reading, answer: Answer) -> None:
        """Keeps an answer that is still good. It says how far the row topic is in it, and so what a token needs."""
        told = answer.body if isinstance(answer.body, dict) else {}
        absent = answer.status == 404 and told.get("error") == UnknownKey.__name__
        topic = self._lineage.rows.get(table, "")
        at = Token(answer.headers.get(ROWS, "")).positions.get((topic, partition), -1) + 1
        if not at or not (answer.status == 200 or absent):
            return
        text = told.get("detail", "") if absent else json.dumps({k: v for k, v in told.items() if k != "age_s"})
        level_s = ticket.asked_s - (told.get("age_s", AGE_S_MAX) if asked.eventual else 0.0)
        row = Row(text, not absent, at, level_s, ENTRY_BYTES + len(key) + len(text))
        with self._lock:
            tp = self._tp(table, partition)
            shelf = self._shelves.get(tp)
            if shelf is None and ticket.shelf is None:
                shelf = self._shelves[tp] = Shelf(table, at, at, level_s)
                ticket.since = at
                self._wake()
            elif shelf is None or (ticket.shelf is None and at < shelf.brought) or ticket.shelf not in (None, shelf):
                return  # what has come by meanwhile has not been compared with it
            for place, offset in {
                **asked.at_least.positions,
                **Token(answer.headers.get(POSITION, "")).positions,
            }.items():
                shelf.mark(place, offset, at)
            if at < ticket.since or ticket.seen >= at or row.size > self._limit:
                return  # there is a newer one, or no room
            self._drop(tp, key)
            shelf.rows[key] = row
            self._used[tp, key] = row.size
            self._bytes += row.size
            while self._bytes > self._limit:
                self._drop(*next(iter(self._used)))
                self._evicted += 1

    def figures(self) -> Figures:
        """What it has done so far."""
        with self._lock:
            age_s = max((self._clock() - shelf.level_s for shelf in self._shelves.values()), default=None)
            counts = self._hits, self._misses, self._behind, self._invalidated, self._evicted
            return Figures(*counts, len(self._used), self._bytes, age_s)

    # --- who follows --------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether there is nothing to be followed."""
        return not self._shelves and not self._following

    def step(self, reader: LogReader, timeout_s: float) -> None:
        """Takes in what has come on the row topics."""
        self._attend(reader)
        polled = reader.poll(RECORDS, timeout_s)
        with self._lock:
            for tp, records in polled.batches.items():
                if shelf := self._followed(tp):
                    for record in records:
                        self._pass(tp, shelf, record.key().decode(), record.offset())
                    shelf.brought = max(shelf.brought, records[-1].offset() + 1)
                    shelf.followed = max(shelf.followed, shelf.brought)
            for tp, end in polled.ends.items():
                if shelf := self._followed(tp):
                    shelf.followed = max(shelf.followed, end)
            for tp in polled.out_of_range:  # the topic is another one than it was
                if self._followed(tp):
                    self._clear(tp)
        if self._clock() - self._looked_s >= LOOK_S:
            self._look(reader)

    def clear(self) -> None:
        """Drops everything: the reader is gone, and another one will begin anew."""
        with self._lock:
            for tp in list(self._shelves):
                self._clear(tp)
            self._following.clear()

    def _attend(self, reader: LogReader) -> None:
        with self._lock:
            wanted = dict(self._shelves)
        # A shelf that was dropped and made again begins where it says, not where the reader has got for the old one.
        if gone := [tp for tp, shelf in self._following.items() if wanted.get(tp) is not shelf]:
            reader.unfollow(gone)
            for tp in gone:
                del self._following[tp]
        if new := {tp: shelf for tp, shelf in wanted.items() if tp not in self._following}:
            reader.follow({tp: shelf.followed for tp, shelf in new.items()})
            self._following |= new

    def _followed(self, tp: TP) -> Shelf | None:
        """The shelf that what the reader brings is for."""
        shelf = self._shelves.get(tp)
        return shelf if shelf is not None and self._following.get(tp) is shelf else None

    def _pass(self, tp: TP, shelf: Shelf, key: str, offset: int) -> None:
        row = shelf.rows.get(key)
        if row is not None and offset >= row.at:
            self._drop(tp, key)
            self._invalidated += 1
        for ticket in shelf.asking.get(key, ()):
            ticket.seen = offset

    def _look(self, reader: LogReader) -> None:
        """Measures how old the copies may be; drops what is too old, and follows no more where nothing is kept."""
        now_s = self._looked_s = self._clock()
        ends = reader.ends(sorted(self._following))
        with self._lock:
            for tp, shelf in list(self._shelves.items()):
                if shelf.goal is None and tp in ends:
                    shelf.goal = ends[tp], now_s
                if shelf.goal is not None and shelf.followed >= shelf.goal[0]:
                    shelf.level_s = max(shelf.level_s, shelf.goal[1])
                    shelf.goal = (ends[tp], now_s) if tp in ends else None
                if not (shelf.rows or shelf.asking) or now_s - shelf.level_s > AGE_S_MAX:
                    self._clear(tp)

    # --- small things; the lock is held -------------------------------------------------------------------------------

    def _may_answer(self, table: str, asked: Reading) -> bool:
        return table in self._lineage.rows and (asked.eventual or (asked.level is Level.OWNER and bool(asked.at_least)))

    def _contains(self, shelf: Shelf, partition: int, token: Token, upto: int) -> bool:
        """Whether all that came of a token is in the row topic below `upto`."""
        home, rows = self._lineage.home(shelf.table), self._lineage.rows[shelf.table]
        for (topic, n), offset in token.positions.items():
            if topic == rows and n == partition:
                needs: int | None = offset + 1
            else:
                needs = shelf.needs((topic, n), offset)
            if (needs is None or needs > upto) and not (topic == home and n != partition):
                return False
        return True

    def _drop(self, tp: TP, key: str) -> None:
        if (size := self._used.pop((tp, key), None)) is not None:
            self._bytes -= size
            del self._shelves[tp].rows[key]

    def _clear(self, tp: TP) -> None:
        for key in list(self._shelves[tp].rows):
            self._drop(tp, key)
        del self._shelves[tp]

    def _tp(self, table: str, partition: int) -> TP:
        topic = self._lineage.rows.get(table, "")
        return TP(self._names.get(topic, topic), partition)

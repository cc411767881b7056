"""A client's near cache: rows that it has read, kept until the row topic brings a newer one.

A worker's response says up to which offset of the table's row topic its row is current. The cache follows the topic
from there, so a cached row stays valid until a newer record of its key arrives. Responses also teach it what a token
needs: a response that contains a token says at which offset of the row topic that is so. No threads here; see
`NearCacheThread`.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pipeline.client.near_cache.cached_partition import CachedPartition, PendingRead, Row
from pipeline.client.owner_request import Answer
from pipeline.client.wire.read_options import Level, ReadOptions
from pipeline.engine.copies.log_followers import Lag
from pipeline.engine.ports import TP, LogReader
from pipeline.errors import UnknownKey
from pipeline.flow import Lineage
from pipeline.model import Token
from pipeline.model.records.token import marked, marks

ROWS = "x-pipeline-row-position"
POSITION = "x-pipeline-position"
ENTRY_BYTES = 300  # bytes for each row beside its key and its text
LOOK_S = 1.0  # how often the ends of the row topics are looked up
AGE_S_MAX = 60.0  # older copies are dropped: the record of a deletion may have been compacted away meanwhile
RECORDS = 2_000


class Figures(NamedTuple):
    """Figures of the cache. `behind`: reads of a row that is cached, but not known to be new enough.

    `age_s`: for how long at most a cached row may have been outdated; None if nothing is cached.
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
        """The share of reads served from the cache, of those that a cache may serve."""
        return self.hits / max(1, self.hits + self.misses + self.behind)


class NearCache:
    """Rows of at most `limit` bytes in total. Safe to use from several threads; call `step` from one only.

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
        self._cached: dict[TP, CachedPartition] = {}
        self._used: OrderedDict[tuple[TP, str], int] = OrderedDict()  # least recently used first; bytes
        self._bytes = 0
        self._hits = self._misses = self._behind = self._invalidated = self._evicted = 0
        self._following: dict[TP, CachedPartition] = {}  # what the reader follows, and for which cached partition
        self._looked_s = 0.0
        self._mark = ""  # of a restored cluster, see `marked`

    # --- readers ------------------------------------------------------------------------------------------------------

    def find(self, table: str, partition: int, key: str, asked: ReadOptions) -> dict[str, Any] | None:
        """Return the row as a worker would, with its `position`. None if a worker must be asked.

        Raises UnknownKey if it is known that there is no such row.
        """
        if not self._may_answer(table, asked):
            return None
        with self._lock:
            tp = self._tp(table, partition)
            cached_partition = self._cached.get(tp)
            row = cached_partition.rows.get(key) if cached_partition else None
            if cached_partition is None or row is None:
                self._misses += 1
                return None
            upto = max(cached_partition.followed, row.at)
            age_s = self._clock() - max(cached_partition.lag.caught_up_s, row.level_s)
            if not (
                age_s <= min(asked.max_age_s, AGE_S_MAX)
                if asked.eventual
                else self._contains(cached_partition, partition, asked.at_least, upto)
            ):
                self._behind += 1
                return None
            self._hits += 1
            self._used.move_to_end((tp, key))
            home = self._lineage.home(table), partition
            offset = cached_partition.covered(home, upto)
        if not row.there:
            raise UnknownKey(row.text)
        position = Token() if offset is None else marked({home: offset}, self._mark)
        found = {**json.loads(row.text), "position": position}
        return {**found, "age_s": age_s} if asked.eventual else found

    def ask(self, table: str, partition: int, key: str) -> PendingRead:
        """Register a read that goes to a worker. Call `keep`, if there is an answer, and then `forget`."""
        with self._lock:
            cached_partition = self._cached.get(self._tp(table, partition))
            pending_read = PendingRead(cached_partition, self._clock())
            if cached_partition is not None:
                pending_read.since = cached_partition.brought
                cached_partition.asking[key].append(pending_read)
            return pending_read

    def forget(self, pending_read: PendingRead, key: str) -> None:
        """Remove a read that has ended."""
        with self._lock:
            if pending_read.cached_partition is not None:
                pending = pending_read.cached_partition.asking[key]
                pending[:] = [other for other in pending if other is not pending_read]
                if not pending:
                    del pending_read.cached_partition.asking[key]

    def keep(
        self, pending_read: PendingRead, table: str, partition: int, key: str, asked: ReadOptions, answer: Answer
    ) -> None:
        """Cache a worker's answer if it is still valid, and learn from it what tokens need."""
        told = answer.body if isinstance(answer.body, dict) else {}
        absent = answer.status == 404 and told.get("error") == UnknownKey.__name__
        topic = self._lineage.rows.get(table, "")
        at = Token(answer.headers.get(ROWS, "")).positions.get((topic, partition), -1) + 1
        if not at or not (answer.status == 200 or absent):
            return
        text = told.get("detail", "") if absent else json.dumps({k: v for k, v in told.items() if k != "age_s"})
        level_s = pending_read.asked_s - (told.get("age_s", AGE_S_MAX) if asked.eventual else 0.0)
        row = Row(text, not absent, at, level_s, ENTRY_BYTES + len(key) + len(text))
        with self._lock:
            tp = self._tp(table, partition)
            cached_partition = self._cached.get(tp)
            if cached_partition is None and pending_read.cached_partition is None:
                cached_partition = self._cached[tp] = CachedPartition(table, at, at, Lag(level_s))
                pending_read.since = at
                self._wake()
            elif (
                cached_partition is None
                or (pending_read.cached_partition is None and at < cached_partition.brought)
                or pending_read.cached_partition not in (None, cached_partition)
            ):
                return  # records that arrived meanwhile were not compared with it
            told = Token(answer.headers.get(POSITION, "")).positions
            self._mark = min(marks(told), default="")
            for place, offset in {**asked.at_least.positions, **told}.items():
                cached_partition.add_token(place, offset, at)
            if at < pending_read.since or pending_read.seen >= at or row.size > self._limit:
                return  # there is a newer row, or no room
            self._drop(tp, key)
            cached_partition.rows[key] = row
            self._used[tp, key] = row.size
            self._bytes += row.size
            while self._bytes > self._limit:
                self._drop(*next(iter(self._used)))
                self._evicted += 1

    def figures(self) -> Figures:
        """Return the figures so far."""
        with self._lock:
            age_s = max(
                (self._clock() - cached_partition.lag.caught_up_s for cached_partition in self._cached.values()),
                default=None,
            )
            counts = self._hits, self._misses, self._behind, self._invalidated, self._evicted
            return Figures(*counts, len(self._used), self._bytes, age_s)

    # --- the follower -------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether there is nothing to follow."""
        return not self._cached and not self._following

    def step(self, reader: LogReader, timeout_s: float) -> None:
        """Read new records of the row topics and drop the rows that they replace."""
        self._attend(reader)
        polled = reader.poll(RECORDS, timeout_s)
        with self._lock:
            for tp, records in polled.batches.items():
                if cached_partition := self._followed(tp):
                    for record in records:
                        self._pass(tp, cached_partition, record.key().decode(), record.offset())
                    cached_partition.brought = max(cached_partition.brought, records[-1].offset() + 1)
                    cached_partition.followed = max(cached_partition.followed, cached_partition.brought)
            for tp, end in polled.ends.items():
                if cached_partition := self._followed(tp):
                    cached_partition.followed = max(cached_partition.followed, end)
            for tp in polled.out_of_range:  # the topic was deleted and created again
                if self._followed(tp):
                    self._clear(tp)
        if self._clock() - self._looked_s >= LOOK_S:
            self._look(reader)

    def clear(self) -> None:
        """Drop everything: the reader is gone, and another one starts over."""
        with self._lock:
            for tp in list(self._cached):
                self._clear(tp)
            self._following.clear()

    def _attend(self, reader: LogReader) -> None:
        with self._lock:
            wanted = dict(self._cached)
        # A partition that was dropped and cached again starts at its own offset, not where the reader is for the old
        # one.
        if gone := [tp for tp, cached_partition in self._following.items() if wanted.get(tp) is not cached_partition]:
            reader.unfollow(gone)
            for tp in gone:
                del self._following[tp]
        if new := {tp: cached_partition for tp, cached_partition in wanted.items() if tp not in self._following}:
            reader.follow({tp: cached_partition.followed for tp, cached_partition in new.items()})
            self._following |= new

    def _followed(self, tp: TP) -> CachedPartition | None:
        """Return the cached partition for which the reader follows `tp`."""
        cached_partition = self._cached.get(tp)
        return (
            cached_partition if cached_partition is not None and self._following.get(tp) is cached_partition else None
        )

    def _pass(self, tp: TP, cached_partition: CachedPartition, key: str, offset: int) -> None:
        row = cached_partition.rows.get(key)
        if row is not None and offset >= row.at:
            self._drop(tp, key)
            self._invalidated += 1
        for pending_read in cached_partition.asking.get(key, ()):
            pending_read.seen = offset

    def _look(self, reader: LogReader) -> None:
        """Measure how old the copies may be. Drop what is too old, and partitions without rows."""
        now_s = self._looked_s = self._clock()
        ends = reader.ends(sorted(self._following))
        with self._lock:
            for tp, cached_partition in list(self._cached.items()):
                if tp in ends:
                    cached_partition.lag.sample(ends[tp], now_s, cached_partition.followed.__ge__)
                if (
                    not (cached_partition.rows or cached_partition.asking)
                    or now_s - cached_partition.lag.caught_up_s > AGE_S_MAX
                ):
                    self._clear(tp)

    # --- helpers; the lock is held ------------------------------------------------------------------------------------

    def _may_answer(self, table: str, asked: ReadOptions) -> bool:
        return table in self._lineage.rows and (asked.eventual or (asked.level is Level.OWNER and bool(asked.at_least)))

    def _contains(self, cached_partition: CachedPartition, partition: int, token: Token, upto: int) -> bool:
        """Whether all that a token's records caused is in the row topic below `upto`."""
        home, rows = self._lineage.home(cached_partition.table), self._lineage.rows[cached_partition.table]
        for (topic, n), offset in token.positions.items():
            if topic == rows and n == partition:
                needs: int | None = offset + 1
            else:
                needs = cached_partition.end_for((topic, n), offset)
            if (needs is None or needs > upto) and not (topic == home and n != partition):
                return False
        return True

    def _drop(self, tp: TP, key: str) -> None:
        if (size := self._used.pop((tp, key), None)) is not None:
            self._bytes -= size
            del self._cached[tp].rows[key]

    def _clear(self, tp: TP) -> None:
        for key in list(self._cached[tp].rows):
            self._drop(tp, key)
        del self._cached[tp]

    def _tp(self, table: str, partition: int) -> TP:
        topic = self._lineage.rows.get(table, "")
        return TP(self._names.get(topic, topic), partition)

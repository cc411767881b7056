"""Waits until tables have reached the positions that readers need."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping

from pipeline.client.wire.read_options import Level, ReadOptions
from pipeline.engine.ports import TP
from pipeline.errors import ForeignToken, NoSuchConsistency
from pipeline.flow import Lineage, token_to_token
from pipeline.model import Token, furthest
from pipeline.model.records.token import RESTORED, marked, marks
from pipeline.server.reads.batching import Waiting
from pipeline.server.reads.cluster_offsets import BoundedOffsets, ClusterOffsets, not_yet
from pipeline.server.reads.local_tables import LocalTables

RESOLVED_MAX = 10_000  # resolved tokens that are kept


class Consistency:
    """Waits until tables of this worker have reached the positions that readers need.

    `mark`: of a restored cluster, see `marked`.
    """

    def __init__(self, lineage: Lineage, tables: LocalTables, offset_source: ClusterOffsets, mark: str = "") -> None:
        self._lineage, self._tables, self._offset_source = lineage, tables, offset_source
        self._mark = mark
        self._waiting = Waiting[tuple[str, int]](lambda at: tables.position(*at))
        self._rows = Waiting[tuple[str, int]](lambda at: tables.rows(*at))
        self._resolved: OrderedDict[tuple[str, str, int], int | None] = OrderedDict()

    def moved(self) -> None:
        """Wake readers after tables may have advanced; see LaneHost."""
        self._offset_source.moved()
        self._waiting.moved()
        self._rows.moved()

    def check(self, table: str, asked: ReadOptions) -> None:
        """Raise UnknownTable, or NoSuchConsistency if the table does not have the requested consistency."""
        self._lineage.home(table)
        derived = table in self._lineage.sources
        if asked.level is Level.LINEARIZABLE and derived:
            raise NoSuchConsistency(f"{table!r} is not an aggregate, so it cannot be linearizable; ask for fresh")
        if asked.level is Level.FRESH and not derived:
            raise NoSuchConsistency(f"{table!r} is an aggregate and has no source; ask for linearizable")

    def token(self, table: str, partition: int, position: int | None) -> Token:
        """Return the token of a table whose next offset to fold is `position`; an empty one if that is None."""
        return self.marked({(self._lineage.home(table), partition): position - 1}) if position else Token()

    def rows_token(self, table: str, partition: int, rows: int) -> Token:
        """Return the token of a row that is current up to offset `rows` of the table's row topic, exclusive."""
        return self.marked({(self._lineage.rows[table], partition): rows - 1}) if rows else Token()

    def marked(self, positions: Mapping[tuple[str, int], int]) -> Token:
        """Return the token of positions in this cluster."""
        return marked(positions, self._mark)

    def unmarked(self, token: Token) -> dict[tuple[str, int], int]:
        """Return the positions of a token of this cluster. Raises ForeignToken."""
        positions = token.positions
        if positions and marks(positions) != ({self._mark} if self._mark else set()):
            since = "since it was restored from a backup" if self._mark else "as it never was restored"
            raise ForeignToken(
                f"the token is not of this cluster {since}: what it stands for may be missing here, or be something "
                "else. Read without it, and go on with the token of that answer"
            )
        return {place: offset for place, offset in positions.items() if not place[0].startswith(RESTORED)}

    async def reach(self, table: str, partition: int, asked: ReadOptions) -> None:
        """Wait until this worker's copy of a partition satisfies the read.

        Raises NotYet if that takes too long, ForeignToken, and TableUnavailable if the partition is not, or no longer,
        owned here.
        """
        until_s = asyncio.get_running_loop().time() + asked.wait_s
        service, home = self._lineage.homes[table]
        rows = self._lineage.rows.get(table, ""), partition
        row_due = self.unmarked(asked.at_least).get(rows)  # from a watch, or a reply's header
        due = await self._due(table, home, partition, asked, until_s)
        if due is not None and not await self._waiting.past((table, partition), due, until_s):
            raise not_yet([(service, home, partition, due, self._tables.position(table, partition))])
        if row_due is not None and not await self._rows.past((table, partition), row_due, until_s):
            raise not_yet([(service, *rows, row_due, self._tables.rows(table, partition))])

    async def change(self, table: str, partition: int, position: int, until_s: float) -> bool:
        """Wait until this worker folds more of a partition than up to `position`. False if time is up first."""
        return await self._waiting.past((table, partition), position, until_s)

    async def _due(self, table: str, home: str, partition: int, asked: ReadOptions, until_s: float) -> int | None:
        """Return the offset of the table's source that it must pass; None if there is none."""
        due: list[int | None] = []
        if asked.level is Level.LINEARIZABLE:
            due.append(await self._offset_source.barrier(TP(home, partition), until_s))
        elif asked.level is Level.FRESH:
            due.append(await self._fresh(table, home, partition, until_s))
        positions = self.unmarked(asked.at_least)
        known = positions.pop((self._lineage.rows.get(table, ""), partition), None) is not None
        if positions:
            try:
                due.append(await self._resolve(Token.of(positions), home, partition, until_s))
            except ForeignToken:
                if not known:
                    raise
        return max((each for each in due if each is not None), default=None)

    async def _resolve(self, token: Token, home: str, partition: int, until_s: float) -> int | None:
        name = str(token), home, partition
        if name not in self._resolved:  # once resolved, it does not change
            look = BoundedOffsets(self._offset_source, until_s)
            due = await token_to_token(self._lineage, token.positions, home, frozenset({partition}), look)
            self._resolved[name] = due.get(partition)
            if len(self._resolved) > RESOLVED_MAX:
                self._resolved.popitem(last=False)
        return self._resolved[name]

    async def _fresh(self, table: str, home: str, partition: int, until_s: float) -> int | None:
        """Return the offset to wait for so that a read contains all that the table's sources hold now.

        Their ends suffice, without a barrier: all earlier records are committed, so they lie below the ends.
        """
        look = BoundedOffsets(self._offset_source, until_s)
        upstream = self._lineage.upstream(home, frozenset({partition}))
        places = [
            (topic, n)
            for topic in self._lineage.sources[table]
            for n in (upstream[topic] or range(await self._offset_source.partitions(topic)))
        ]
        ends = await look.ends(places)
        token = furthest({place: end - 1 for place, end in ends.items() if end > 0})
        due = await token_to_token(self._lineage, token, home, frozenset({partition}), look)
        return due.get(partition)

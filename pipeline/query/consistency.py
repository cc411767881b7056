"""What readers may ask of an answer, and waiting until it can be given."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from pipeline.errors import BadRequest, NoSuchConsistency
from pipeline.flow import Lineage, token_to_token
from pipeline.model import Token, furthest
from pipeline.query.batching import Waiting
from pipeline.query.local import LocalTables
from pipeline.query.sight import ClusterSight, Look, not_yet
from pipeline.runtime.ports import TP

WAIT_S, WAIT_S_MAX = 5.0, 60.0
RESOLVED_MAX = 10_000  # tokens whose meaning further down is kept


EVERYTHING = Token()  # is at least this


class Level(Enum):
    """What an answer promises; see docs/consistency.md."""

    OWNER = "owner"  # what the owner of the partition holds; where nothing is said
    EVENTUAL = "eventual"  # or what a standby holds, with its age
    LINEARIZABLE = "linearizable"  # of an aggregate: all that was stored before the question
    FRESH = "fresh"  # of a projection or replica: all that its sources held when it was asked


@dataclass(frozen=True, slots=True)
class Reading:
    """How a table is to be read. `at_least`: what the answer has to contain; `wait_s`: how long that may take.

    `max_age_s`: how old an eventual answer may be.
    """

    level: Level = Level.OWNER
    at_least: Token = EVERYTHING
    wait_s: float = WAIT_S
    max_age_s: float = float("inf")

    @property
    def eventual(self) -> bool:
        """Whether a standby may answer."""
        return self.level is Level.EVENTUAL

    def query(self) -> dict[str, str]:
        """The same as parameters of a query."""
        asked = {"consistency": self.level.value} if self.level is not Level.OWNER else {}
        asked |= {"at_least": str(self.at_least)} if self.at_least else {}
        asked |= {"max_age": f"{self.max_age_s:g}"} if self.max_age_s != float("inf") else {}
        return asked | ({"wait": f"{self.wait_s:.3f}"} if self.wait_s != WAIT_S else {})


def reading(query: Mapping[str, str]) -> Reading:
    """What the parameters of a query say. Raises BadRequest, InvalidToken."""
    levels = {level.value: level for level in Level}
    name = query.get("consistency", Level.OWNER.value)
    if name not in levels:
        raise BadRequest(f"consistency {name!r:.100} is not known; there are {', '.join(levels)}")
    token = Token(query.get("at_least", ""))
    token.positions  # noqa: B018  # raises what is wrong with it
    if token and levels[name] is Level.EVENTUAL:
        raise BadRequest("at_least is answered by the owner of the partition; leave consistency=eventual out")
    if "max_age" in query and levels[name] is not Level.EVENTUAL:
        raise BadRequest("max_age goes with consistency=eventual: all other answers are the owner's")
    max_age_s = _seconds(query, "max_age") if "max_age" in query else float("inf")
    wait_s = min(_seconds(query, "wait"), WAIT_S_MAX) if "wait" in query else WAIT_S
    return Reading(levels[name], token, wait_s, max_age_s)


def _seconds(query: Mapping[str, str], name: str) -> float:
    text = query[name]
    whole, _, rest = text.partition(".")
    if not (
        whole.isascii() and whole.isdigit() and len(text) <= 12 and ((rest.isascii() and rest.isdigit()) or not rest)
    ):
        raise BadRequest(f"{name}={text!r:.100} is no number of seconds, such as 2.5")
    return float(text)


class Consistency:
    """Waits until tables of this worker are where readers need them."""

    def __init__(self, lineage: Lineage, tables: LocalTables, sight: ClusterSight) -> None:
        self._lineage, self._tables, self._sight = lineage, tables, sight
        self._waiting = Waiting[tuple[str, int]](lambda at: tables.position(*at))
        self._resolved: OrderedDict[tuple[str, str, int], int | None] = OrderedDict()

    def moved(self) -> None:
        """Tables may have gone on; see LaneHost."""
        self._sight.moved()
        self._waiting.moved()

    def check(self, table: str, asked: Reading) -> None:
        """Raises NoSuchConsistency where the table cannot give what is asked for, UnknownTable."""
        self._lineage.home(table)
        derived = table in self._lineage.sources
        if asked.level is Level.LINEARIZABLE and derived:
            raise NoSuchConsistency(
                f"{table!r} is no aggregate, so it cannot be read linearizably; fresh is what it has"
            )
        if asked.level is Level.FRESH and not derived:
            raise NoSuchConsistency(f"{table!r} is an aggregate, which is made from nothing; ask for linearizable")

    def token(self, table: str, partition: int, position: int | None) -> Token:
        """The token of a table that has to fold that offset of a partition next; None: it is not told."""
        return Token.of({(self._lineage.home(table), partition): position - 1}) if position else Token()

    async def reach(self, table: str, partition: int, asked: Reading) -> None:
        """Returns once what this worker holds of a partition is what is asked for.

        Raises NotYet where that takes too long, ForeignToken, and TableUnavailable where the partition is not, or no
        longer, held here.
        """
        until_s = asyncio.get_running_loop().time() + asked.wait_s
        home = self._lineage.home(table)
        due = await self._due(table, home, partition, asked, until_s)
        if due is not None and not await self._waiting.past((table, partition), due, until_s):
            service, _ = self._lineage.homes[table]
            raise not_yet([(service, home, partition, due, self._tables.position(table, partition))])

    async def _due(self, table: str, home: str, partition: int, asked: Reading, until_s: float) -> int | None:
        """The offset of the table's source that it has to be past."""
        due: list[int | None] = []
        if asked.level is Level.LINEARIZABLE:
            due.append(await self._sight.barrier(TP(home, partition), until_s))
        elif asked.level is Level.FRESH:
            due.append(await self._fresh(table, home, partition, until_s))
        if asked.at_least:
            due.append(await self._resolve(asked.at_least, home, partition, until_s))
        return max((each for each in due if each is not None), default=None)

    async def _resolve(self, token: Token, home: str, partition: int, until_s: float) -> int | None:
        name = str(token), home, partition
        if name not in self._resolved:  # once resolved, it stays so
            look = Look(self._sight, until_s)
            due = await token_to_token(self._lineage, token.positions, home, frozenset({partition}), look)
            self._resolved[name] = due.get(partition)
            if len(self._resolved) > RESOLVED_MAX:
                self._resolved.popitem(last=False)
        return self._resolved[name]

    async def _fresh(self, table: str, home: str, partition: int, until_s: float) -> int | None:
        """The same for all that stands in the table's sources now.

        Their ends are enough, and no barrier is needed: what has happened is committed, so it lies below them.
        """
        look = Look(self._sight, until_s)
        upstream = self._lineage.upstream(home, frozenset({partition}))
        places = [
            (topic, n)
            for topic in self._lineage.sources[table]
            for n in (upstream[topic] or range(await self._sight.partitions(topic)))
        ]
        ends = await look.ends(places)
        token = furthest({place: end - 1 for place, end in ends.items() if end > 0})
        due = await token_to_token(self._lineage, token, home, frozenset({partition}), look)
        return due.get(partition)

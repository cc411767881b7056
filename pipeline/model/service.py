"""The service: one owner of data, all that it declares, and the checks that its parts agree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.errors import TopologyError
from pipeline.model.aggregate import Aggregate
from pipeline.model.fields import alternatives
from pipeline.model.projection.projection import Database, Projection, Replica
from pipeline.model.projection.sql_names import field_names, unfit_columns, unfit_table
from pipeline.model.projection.versions import with_table
from pipeline.model.reaction import Reaction
from pipeline.model.records.topics import TopicKind
from pipeline.model.reservation import decide_reservation, reservations
from pipeline.model.saga.saga import Saga
from pipeline.model.source import Source, check_followed
from pipeline.model.start import NOW, check_start

ENGINE = f"{__package__}."  # modules of the classes that aggregates of any service may share, such as those of sagas
RAISING_SHARE = 0.1
RAISING_AT_LEAST = 20  # so that some bad records in a quiet minute hold nobody up
NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


def check_raising(share: float, at_least: int, where: str) -> None:
    """Raise TopologyError if that is no share of records and no number of them."""
    if not (isinstance(share, int | float) and 0 <= share <= 1):
        raise TopologyError(
            f"{where}: raising_share={share!r} is not between 0 and 1; 0.1 means a tenth of the records"
        )
    if not (isinstance(at_least, int) and at_least >= 1):
        raise TopologyError(f"{where}: raising_at_least={at_least!r} is not a number of records from 1 on")


@dataclass(frozen=True)  # without slots: `owned` is kept
class Service:
    """A bounded context: the aggregates it owns, and what it derives from its own and others' events.

    Aggregates with unique values bring those along that hold the reservations. `transient`: the types of exceptions
    that may be gone when the same is tried again a moment later. `raising_share`, `raising_at_least`: if of the records
    folded lately more than this share raises, and so many, a worker folds no more until it is resumed; a share of 1
    never holds it. `part_of`: the service whose projection this is a
    later version of; see families. Raises TopologyError if names collide or parts do not fit together.
    """

    name: str
    aggregates: Sequence[Aggregate[Any, Any, Any]] = ()
    reactions: Sequence[Reaction] = ()
    projections: Sequence[Projection[Any, Any]] = ()
    replicas: Sequence[Replica[Any, Any]] = ()
    sagas: Sequence[Saga[Any]] = ()
    transient: tuple[type[Exception], ...] = ()
    raising_share: float = RAISING_SHARE
    raising_at_least: int = RAISING_AT_LEAST
    part_of: str = ""

    def __post_init__(self) -> None:
        self._add_reservations()
        object.__setattr__(self, "projections", tuple(with_table(projection) for projection in self.projections))
        parts: list[Aggregate[Any, Any, Any] | Projection[Any, Any] | Replica[Any, Any]] = []
        parts += [*self.owned, *self.projections, *self.replicas]
        tables = [part.name for part in parts] + [each.kept_as for each in self.owned if each.revision > 1]
        for name in (self.name, *tables, *(reaction.name for reaction in self.reactions)):
            if not NAME.fullmatch(name):
                raise TopologyError(
                    f"service {self.name!r}: {name!r} cannot be part of a topic name; "
                    "use lower-case letters, digits and underscores, a letter first"
                )
        for each in self.transient:
            if not (isinstance(each, type) and issubclass(each, Exception)):
                raise TopologyError(f"service {self.name!r}: transient={each!r} is no type of exceptions")
        check_raising(self.raising_share, self.raising_at_least, f"service {self.name!r}")
        for name, count in Counter(tables).items():
            if count > 1:
                raise TopologyError(f"service {self.name!r}: {count} tables are named {name!r}; give each its own name")
        for name in {reaction.name for reaction in self.reactions} & {a.name for a in self.owned if a.asks}:
            raise TopologyError(
                f"service {self.name!r}: the reaction and the aggregate named {name!r} would send commands of the "
                "same ids; rename one"
            )
        self._check_commands()
        self._check_starts()
        self._check_replicas()
        for projection in self.projections:
            self._check_projection(projection)
        self._check_sql_names()
        homes: dict[str, Projection[Any, Any]] = {}
        for projection in [each for each in self.projections if each.version == 1]:
            other = homes.setdefault(self.tables()[projection.name], projection)
            if other.database is not projection.database:
                raise TopologyError(
                    f"service {self.name!r}: {other.name!r} and {projection.name!r} are folded from the same topic, so "
                    "their rows change together; keep both in the same database, or give one a route"
                )
        for source in self.sources():
            check_followed(self.name, source)
        seen: dict[str, Source] = {}
        for source in self._sources([projection for projection in self.projections if projection.version == 1]):
            if seen.setdefault(source.topic, source) != source:
                raise TopologyError(
                    f"service {self.name!r} follows {source.topic!r} with two different sets of event classes; "
                    "declare one Source and use it in both places"
                )

    def _add_reservations(self) -> None:
        # A copy of a service that has them is not to get them twice.
        made = [reservations(unique) for aggregate in self.aggregates for unique in aggregate.unique]
        there = {aggregate.decide for aggregate in self.aggregates}
        if made and decide_reservation not in there:
            object.__setattr__(self, "aggregates", (*self.aggregates, *made))

    def _check_commands(self) -> None:
        shared = {cls: names for cls, names in self.takers.items() if len(names) > 1}
        for cls, names in shared.items() if self.reactions else ():
            if not cls.__module__.startswith(ENGINE):
                who = " and ".join(map(repr, names))
                reactions = ", ".join(repr(reaction.name) for reaction in self.reactions)
                raise TopologyError(
                    f"service {self.name!r}: the aggregates {who} all take the command class {cls.__name__}, so a Send "
                    f"of the reaction {reactions} does not say which one is meant; give each aggregate a class of its "
                    "own, or keep the reaction in a service that has only one of them"
                )

    def _check_starts(self) -> None:
        for what, parts in (("reaction", self.reactions), ("projection", self.projections), ("replica", self.replicas)):
            for part in parts:
                check_start(part.start, f"service {self.name!r}, {what} {part.name!r}")
        for replica in self.replicas:
            if replica.start == NOW:
                raise TopologyError(
                    f'service {self.name!r}, replica {replica.name!r}: start="now" is another moment for each worker, '
                    'so their copies would differ; leave it out, or keep a projection with start="now"'
                )

    def _check_replicas(self) -> None:
        topics = Counter(replica.source.topic for replica in self.replicas)
        for topic, count in topics.items():
            if count > 1:
                raise TopologyError(
                    f"service {self.name!r} keeps {count} replicas of {topic!r}; make them one, with the fields of all"
                )
        for aggregate in self.aggregates:
            for replica in aggregate.replicas:
                if replica not in self.replicas:
                    raise TopologyError(
                        f"service {self.name!r}: the aggregate {aggregate.name!r} reads {replica.name!r}, which is no "
                        "replica of the service; add it to its replicas"
                    )

    def _check_projection(self, projection: Projection[Any, Any]) -> None:
        where = f"service {self.name!r}, projection {projection.name!r}"
        for index in projection.indexes:
            if not NAME.fullmatch(index):
                raise TopologyError(f"{where}: an index cannot be named {index!r}; use letters, digits and underscores")
        if not projection.sources:
            raise TopologyError(f"{where} has no source; name at least one event topic")
        if (projection.route is None) != (projection.by_key is None):
            raise TopologyError(
                f"{where}: route and by_key go together; give both, or neither to keep the source's key"
            )
        if projection.windows is not None and projection.route is None:
            raise TopologyError(f"{where}: windows need a route, as each has rows of its own")
        if projection.route is None and len(projection.sources) > 1:
            raise TopologyError(
                f"{where} has {len(projection.sources)} sources but no route; give route and by_key, so that all that "
                "changes a row arrives over one topic, in one order"
            )

    def _check_sql_names(self) -> None:
        """Refuse here, and not when a worker makes the tables, what cannot stand in a database."""
        kept = [projection for projection in self.projections if projection.database is not Database.ROCKSDB]
        tables = [projection.name for projection in kept]
        for projection in kept:
            why = unfit_table(projection.name, tables) or unfit_columns(field_names(projection.initial))
            if why is not None:
                raise TopologyError(f"service {self.name!r}, projection {projection.name!r} in SQL: {why}")

    @cached_property
    def owned(self) -> tuple[Aggregate[Any, Any, Any], ...]:
        """The aggregates, and the sagas as what they are to the engine: aggregates, too."""
        return (*self.aggregates, *(saga.aggregate for saga in self.sagas))

    @cached_property
    def takers(self) -> dict[type, list[str]]:
        """The names of the aggregates that take commands of a class. A reaction can send what one alone takes."""
        found: dict[type, list[str]] = {}
        for aggregate in self.addressed:
            for cls in alternatives(aggregate.command):
                found.setdefault(cls, []).append(aggregate.name)
        return found

    @property
    def addressed(self) -> list[Aggregate[Any, Any, Any]]:
        """Those of them that take commands from outside; reservations take the engine's alone."""
        return [aggregate for aggregate in self.owned if aggregate.decide is not decide_reservation]

    def sources(self) -> Iterator[Source]:
        """All event topics it follows, by reactions, projections and replicas; some come repeatedly."""
        return self._sources(self.projections)

    def _sources(self, projections: Sequence[Projection[Any, Any]]) -> Iterator[Source]:
        for reaction in self.reactions:
            yield reaction.source
        for projection in projections:
            yield from projection.sources
        for replica in self.replicas:
            yield replica.source

    def source_topics(self) -> list[str]:
        """The topics that it folds as a group, in the order of their declaration."""
        found = [TopicKind.COMMAND.topic(aggregate.name) for aggregate in self.owned]
        found += [reaction.source.topic for reaction in self.reactions]
        for projection in self.projections:
            found += [source.topic for source in projection.sources]
            if projection.route is not None:
                found.append(TopicKind.BY_KEY.topic(projection.name))
        return list(dict.fromkeys(found))

    def tables(self) -> dict[str, str]:
        """Name of each partitioned table -> the topic whose partitions it is folded from and split by."""
        homes = {a.name: TopicKind.COMMAND.topic(a.name) for a in self.owned}
        for p in self.projections:
            homes[p.name] = p.sources[0].topic if p.route is None else TopicKind.BY_KEY.topic(p.name)
        return homes

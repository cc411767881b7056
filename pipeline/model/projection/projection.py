"""Projections and replicas: tables made for reading, folded from events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from pipeline.model.context import EventContext, Given, asks_context
from pipeline.model.projection.windows import Tumbling
from pipeline.model.source import Source
from pipeline.model.start import BEGINNING

M = TypeVar("M")
R = TypeVar("R")
Row = TypeVar("Row", covariant=True)


class Database(Enum):
    """The store of a projection's table. The address of an SQL database is a setting of the worker."""

    ROCKSDB = "RocksDB"  # local, a database for each partition
    SQLITE = "SQLite"  # one file for all of a service's projections that say so, unless the worker names a server
    POSTGRESQL = "PostgreSQL"  # a server, which the worker has to name


@dataclass(frozen=True, slots=True)
class Projection(Generic[M, R]):
    """A table of rows folded from one or several event topics, emitted row by row to `<name>.row`.

    Keyed like its source: leave `by_key` and `route` out; `evolve(row, event)` folds each event into the row of the
    same key.

    Keyed otherwise, or with several sources: `route(key, event)` gives the rows an event touches as pairs
    (row key, message), `by_key` names the messages' classes, and `evolve(row, message)` folds each message. They
    travel over the repartition topic `<name>.by_key`.

    `initial`: what a row is before its first message. An `evolve` that returns None deletes the row.

    Of a function with a parameter `context`: `route`, and `evolve` if it folds events themselves, is given an
    EventContext, too. Messages carry none: `route` puts into them what `evolve` needs of it.

    `indexes`: by name, what rows are to be found by beside their key: text, or None for a row that is not to be found.
    Pure functions; one that changes its meaning needs a new name.

    `windows`: each row is that of one window. `route` gives the keys without it; the row's key is then
    `<key>/<beginning of the window>`, such as `France/2009-11-30T00:00:00Z`. What comes too late is left out and
    counted.

    `database`: where the table is kept. In SQL it is a table of the projection's name with a column for each field,
    to be joined with the others of its service.

    `version`: one more if its functions have come to mean something else. It is folded from the beginning of its
    sources, into the table `<name>_v<version>`, beside the one before, until readers are switched.

    `start`: a projection that is new to its service is folded from the beginning of its sources, beside the others,
    and is read once that is done; with "now" it holds only what comes once it is there.
    """

    name: str
    sources: Sequence[Source]
    initial: R
    evolve: Given[R, M, R | None]
    by_key: object = None
    route: Given[str, Any, Iterable[tuple[str, M]]] | None = None
    indexes: Mapping[str, Callable[[R], str | None]] = field(default_factory=dict)
    windows: Tumbling | None = None
    database: Database = Database.ROCKSDB
    version: int = 1
    start: str = BEGINNING
    evolve_in_context: bool = field(init=False, repr=False, compare=False)
    route_in_context: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where, routed = f"projection {self.name!r}: its", self.route is not None
        folded = ["the row", "the message" if routed else "the event"]
        evolves = asks_context(self.evolve, f"{where} evolve", folded, None if routed else EventContext)
        routes = routed and asks_context(self.route, f"{where} route", ["the key", "the event"], EventContext)
        object.__setattr__(self, "evolve_in_context", evolves)
        object.__setattr__(self, "route_in_context", routes)


@dataclass(frozen=True, slots=True)
class Replica(Generic[M, R]):
    """A service's own, full copy of another service's data, kept by every worker of the service.

    `evolve(row, event)` folds each event of `source` into the row of the same key; None deletes the row. With a
    parameter `context` it is given an EventContext. Reads from it are eventual: it follows the owner, and goes on
    answering while the owner is down. Decisions read it if an aggregate of the service has it among its `reads`.

    `start`: each copy begins at the beginning of the source; "now" would be another moment in each, and is refused.
    """

    name: str
    source: Source
    initial: R
    evolve: Given[R, M, R | None]
    start: str = BEGINNING
    evolve_in_context: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        evolves = asks_context(
            self.evolve, f"replica {self.name!r}: its evolve", ["the row", "the event"], EventContext
        )
        object.__setattr__(self, "evolve_in_context", evolves)


class Copy(Protocol[Row]):
    """A replica as one decision sees it: fixed at one position while `decide` runs."""

    def get(self, key: str) -> Row | None:
        """The row of `key`; None if the copy has none."""

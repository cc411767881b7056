"""Projections and replicas: tables made for reading, folded from events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from pipeline.model.projection.windows import Tumbling
from pipeline.model.source import Source

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

    `indexes`: by name, what rows are to be found by beside their key: text, or None for a row that is not to be found.
    Pure functions; one that changes its meaning needs a new name.

    `windows`: each row is that of one window. `route` gives the keys without it; the row's key is then
    `<key>/<beginning of the window>`, such as `France/2009-11-30T00:00:00Z`. What comes too late is left out and
    counted.

    `database`: where the table is kept. In SQL it is a table of the projection's name with a column for each field,
    to be joined with the others of its service.

    `version`: one more if its functions have come to mean something else. It is folded from the beginning of its
    sources, into the table `<name>_v<version>`, beside the one before, until readers are switched.
    """

    name: str
    sources: Sequence[Source]
    initial: R
    evolve: Callable[[R, M], R | None]
    by_key: object = None
    route: Callable[[str, Any], Iterable[tuple[str, M]]] | None = None
    indexes: Mapping[str, Callable[[R], str | None]] = field(default_factory=dict)
    windows: Tumbling | None = None
    database: Database = Database.ROCKSDB
    version: int = 1


@dataclass(frozen=True, slots=True)
class Replica(Generic[M, R]):
    """A service's own, full copy of another service's data, kept by every worker of the service.

    `evolve(row, event)` folds each event of `source` into the row of the same key; None deletes the row. Reads from
    it are eventual: it follows the owner, and goes on answering while the owner is down. Decisions read it if an
    aggregate of the service has it among its `reads`.
    """

    name: str
    source: Source
    initial: R
    evolve: Callable[[R, M], R | None]


class Copy(Protocol[Row]):
    """A replica as one decision sees it: fixed at one position while `decide` runs."""

    def get(self, key: str) -> Row | None:
        """The row of `key`; None if the copy has none."""

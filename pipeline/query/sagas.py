"""Where the instances of sagas stand, from their tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from pipeline.client.from_json import from_json
from pipeline.model import Saga, Summary
from pipeline.query.moments import iso


class Instance(NamedTuple):
    """One instance. `since_ms`: when something last happened to it."""

    saga: str
    key: str
    summary: Summary
    since_ms: int

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {"saga": self.saga, "key": self.key, **self.summary._asdict(), "since": iso(self.since_ms)}


class Tables(Protocol):
    """What rows are read with; a QueryClient."""

    def get(self, table: str, key: str) -> dict[str, Any]: ...
    def scan(self, table: str) -> Iterator[dict[str, Any]]: ...


def instance(saga: Saga[Any], row: dict[str, Any]) -> Instance:
    """The instance that a row of the saga's table is."""
    state = from_json(type(saga.initial), row["row"], saga.name)
    return Instance(saga.name, row["key"], saga.summary(state), row["time_ms"])


def instances(tables: Tables, sagas: Iterable[Saga[Any]], states: Iterable[str]) -> Iterator[Instance]:
    """All instances in one of these states, by saga and key. Reads every row, also of those that have ended."""
    wanted = set(states)
    for saga in sagas:
        for row in tables.scan(saga.name):
            found = instance(saga, row)
            if found.summary.status in wanted:
                yield found

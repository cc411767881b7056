"""Tables whose functions have come to be others: what they hold was folded by the functions from before."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.develop.code.functions import digest
from pipeline.model import TopicKind
from pipeline.model.projection.versions import declared_name
from pipeline.model.projection.windows import Tumbling
from pipeline.topology import Topology

FILE = "functions.json"  # in the home: how tables were folded when `pipeline dev` last ran them


@dataclass(frozen=True, slots=True)
class Kept:
    """A table that keeps what its functions make. `number`: its version or revision, 0 where there is none.

    `topic`: has records if the table has some.
    """

    kind: str
    name: str
    number: int
    topic: str
    digest: str

    @property
    def key(self) -> str:
        """What it is remembered by."""
        return f"{self.kind} {self.name} {self.number}"

    def as_json(self) -> dict[str, Any]:
        """Return what is said of it."""
        return {"kind": self.kind, "name": self.name, "number": self.number}


def kept_tables(topology: Topology, project: Sequence[str]) -> list[Kept]:
    """Return the tables of a topology. `project`: its directories."""
    return [
        Kept(kind, name, number, topic, digest(project, *functions))
        for kind, name, number, topic, functions in _tables(topology)
    ]


def _tables(topology: Topology) -> Iterator[tuple[str, str, int, str, Sequence[Any]]]:
    for service in topology.services.values():
        for aggregate in service.aggregates:
            functions: list[Any] = [aggregate.evolve, aggregate.initial]
            yield "aggregate", aggregate.name, aggregate.revision, aggregate.states, functions
        for each in service.projections:
            functions = [each.evolve, each.initial, each.route, dict(each.indexes), *_parts(each.windows)]
            yield "projection", declared_name(each), each.version, TopicKind.ROW.topic(each.name), functions
        for replica in service.replicas:
            functions = [replica.evolve, replica.initial]
            yield "replica", replica.name, 0, replica.source.topic, functions


def _parts(windows: Tumbling | None) -> list[Any]:
    return [getattr(windows, each.name) for each in fields(windows)] if windows else []


class Folded:
    """How tables were folded in a home, on one Kafka and by one Python: each compiles code otherwise."""

    def __init__(self, home: Path, kafka: str) -> None:
        self._path, self._of = home / FILE, {"python": sys.version, "kafka": kafka}
        self._before: dict[str, str] = {}
        with suppress(OSError, ValueError, LookupError, AttributeError, TypeError):
            noted = json.loads(self._path.read_text())
            if noted.pop("of") == self._of:
                self._before = noted.pop("tables")

    def changed(self, tables: Sequence[Kept], has_records: Callable[[Sequence[str]], Mapping[str, bool]]) -> list[Kept]:
        """Return the tables that hold something, and were folded otherwise."""
        other = [each for each in tables if self._before.get(each.key, each.digest) != each.digest]
        filled = has_records([each.topic for each in other]) if other else {}
        return [each for each in other if filled.get(each.topic)]

    def note(self, tables: Sequence[Kept]) -> None:
        """Remember how the tables are folded from now on."""
        now = self._before | {each.key: each.digest for each in tables}
        if now != self._before:
            part = self._path.with_name(f"{FILE}.part")
            part.write_text(json.dumps({"of": self._of, "tables": now}, indent=1))
            part.replace(self._path)

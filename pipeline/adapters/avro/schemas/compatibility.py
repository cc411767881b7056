"""Which changes of a schema break the reading of its topic: each schema is held against the earlier versions of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.adapters.avro.registry import Level, Registry, Schema
from pipeline.adapters.avro.wire.resolution import Finding, Resolution
from pipeline.model import TopicKind

# An event log is kept for ever, and any topic may still hold records of its first version. Nothing is asked forward by
# default, as a command or an event of a new kind is a branch that older readers cannot know.
DEFAULT = Level.BACKWARD_TRANSITIVE


def findings(writer: Schema, reader: Schema, topic: str = "schema") -> list[Finding]:
    """Return what breaks where records of one schema are read with another. Raises SchemaError; see Resolution."""
    return Resolution(writer, reader, topic).findings


@dataclass(frozen=True, slots=True)
class Break:
    """What an earlier version of a topic's schema has otherwise, so that one of both cannot be read with the other."""

    topic: str
    version: int  # the earlier one, counted from 1 within the topic …
    id: int  # … and its id
    forward: bool  # whether it is the earlier version that cannot read records of the new one
    finding: Finding

    @property
    def was(self) -> str:
        """What the earlier version has."""
        return self.finding.reader if self.forward else self.finding.writer

    @property
    def is_now(self) -> str:
        """What the present schema has."""
        return self.finding.writer if self.forward else self.finding.reader

    @property
    def cure(self) -> str:
        """What to change in the present schema."""
        cure = self.finding.keep if self.forward else self.finding.cure
        if TopicKind.of(self.topic) is not TopicKind.STATE:
            return cure
        more = "give the aggregate its next revision=, whose states are folded anew, or a migrate= of the old class"
        return f"{cure}; or {more}"

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        place = self.finding.place
        return {
            "topic": self.topic,
            "version": self.version,
            "id": self.id,
            "direction": "forward" if self.forward else "backward",
            "record": place.record,
            "field": place.field,
            "path": place.path,
            "was": self.was,
            "is": self.is_now,
            "why": self.finding.why,
            "cure": self.cure,
        }


def breaks(registry: Registry) -> Iterator[Break]:
    """Find what breaks in all schemas of a directory as they stand now, registered or not. Raises SchemaError."""
    levels = registry.levels()
    for topic in registry.topics():
        yield from _of_topic(registry, topic, levels.get(topic, DEFAULT))


def _of_topic(registry: Registry, topic: str, level: Level) -> Iterator[Break]:
    present, older = registry.read(topic), registry.compared(topic)
    for number, version in older if level.transitive else older[-1:]:
        directions = [(False, version.schema, present)] if level.backward else []
        if level.forward:
            directions.append((True, present, version.schema))
        for forward, writer, reader in directions:
            for finding in findings(writer, reader, topic):
                yield Break(topic, number, version.id, forward, finding)


def explained(found: Iterable[Break]) -> Iterator[str]:
    """Return lines for people: a heading for each topic and its versions, and below it each place with its cure.

    What several versions have alike is said once.
    """
    alike: dict[tuple[str, bool, Finding], list[Break]] = {}
    for each in found:
        alike.setdefault((each.topic, each.forward, each.finding), []).append(each)
    headed: dict[str, list[Break]] = {}
    for same in alike.values():
        headed.setdefault(_heading(same), []).append(same[0])
    for heading, group in headed.items():
        yield heading
        for each in group:
            yield f"  {each.finding.place}: was {each.was}; is {each.is_now}"
            yield f"    {each.finding.why}; cure: {each.cure}"


def _heading(alike: Sequence[Break]) -> str:
    """Return what cannot be read, of breaks that differ in the version alone."""
    earlier = _versions({each.version: each.id for each in alike})
    of, by = ("the present schema", earlier) if alike[0].forward else (earlier, "the present schema")
    return f"{alike[0].topic}: records of {of} cannot be read as they are meant by {by}"


def _versions(ids: Mapping[int, int]) -> str:
    """Return versions as a list, neighbours together: `versions 1, 2 and 5 to 9 (ids …)`."""
    if len(ids) == 1:
        return "".join(f"version {number} (id {schema_id})" for number, schema_id in ids.items())
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    *first, last = itertools.chain.from_iterable(
        [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run) for run in runs
    )
    numbers = f"{', '.join(first)} and {last}" if first else last
    return f"versions {numbers} (ids {', '.join(str(ids[number]) for number in sorted(ids))})"

"""Points: what a backup holds as of a moment. Each is a JSON file that is written when all that it names is there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from pipeline.adapters.vault import Vault
from pipeline.engine.ports import TP
from pipeline.errors import BackupError

VERSION = 1
FOLDER = "points"
NAME = re.compile(FOLDER + r"/(\d{6})\.json")
LOG_FILE = re.compile(r"logs/(.+)/([0-9a-f]+)/(\d+)/(\d{20})-(\d{20})-(\d+)\.([0-9a-f]{64})\.avro")


class LogFile(NamedTuple):
    """A file with the records of a partition from `first` to before `end`. `identity`: of the topic."""

    topic: str
    identity: str
    partition: int
    first: int
    end: int
    records: int
    digest: str

    @property
    def name(self) -> str:
        """The name in the backup."""
        folder = f"logs/{self.topic}/{self.identity}/{self.partition}"
        return f"{folder}/{self.first:020}-{self.end:020}-{self.records}.{self.digest}.avro"

    @classmethod
    def parse(cls, name: str) -> LogFile | None:
        """Return what a name says; None if it is no such file."""
        if (found := LOG_FILE.fullmatch(name)) is None:
            return None
        topic, identity, partition, first, end, records, digest = found.groups()
        return cls(topic, identity, int(partition), int(first), int(end), int(records), digest)


class Topic(NamedTuple):
    """A topic: its identity in hexadecimal, its partitions, and the settings that it was given."""

    identity: str
    partitions: int
    settings: dict[str, str]


@dataclass
class Point:
    """What a backup holds as of a moment.

    `low`, `end`: of each partition, where its records begin and end. `files`: their names. `committed`: by group, the
    offset of each source partition with the note that was committed beside it. `noted`: by topic of positions, what the
    service has noted there.
    """

    number: int
    made_ms: int
    cluster: str
    topology: str
    topics: dict[str, Topic]
    low: dict[str, int]
    end: dict[str, int]
    files: dict[str, list[str]] = field(default_factory=dict)
    committed: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)
    noted: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name in the backup."""
        return f"{FOLDER}/{self.number:06}.json"

    def json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"version": VERSION, **asdict(self), "topics": {name: t._asdict() for name, t in self.topics.items()}}

    def log_files(self, place: str) -> list[LogFile]:
        """Return the files of a partition, in order. Raises BackupError if they are not one behind the other."""
        found = [LogFile.parse(name) for name in self.files.get(place, ())]
        at = 0
        for each in found:
            if each is None or each.first < at:
                raise BackupError(f"point {self.number} is damaged in {place}; take another point")
            at = each.end
        return [each for each in found if each is not None]

    @property
    def records(self) -> int:
        """How many records it holds."""
        return sum(each.records for place in self.files for each in self.log_files(place))


def place_of(tp: TP) -> str:
    """Return the name of a partition in a point."""
    return f"{tp.topic}/{tp.partition}"


def numbers(vault: Vault) -> list[int]:
    """Return the numbers of the points there are, in order."""
    return [int(found[1]) for name in vault.names(FOLDER) if (found := NAME.fullmatch(name))]


def read_point(vault: Vault, number: int | None = None) -> Point:
    """Return a point, the last one unless `number` says which. Raises BackupError."""
    there = numbers(vault)
    if not there or (number is not None and number not in there):
        has = f"has the points {there[0]} to {there[-1]}" if there else "has no point: no backup of logs was completed"
        raise BackupError(f"{vault.url} {has}; make one with: pipeline backup logs TOPOLOGY --to {vault.url}")
    told = vault.read_json(f"{FOLDER}/{there[-1] if number is None else number:06}.json")
    if told.pop("version", None) != VERSION:
        raise BackupError(f"{vault.url} was written by another version of pipeline backup")
    told["topics"] = {name: Topic(**each) for name, each in told["topics"].items()}
    told["committed"] = {group: {p: (o, n) for p, (o, n) in of.items()} for group, of in told["committed"].items()}
    return Point(**told)


def chained(files: Iterable[LogFile], at: int) -> list[LogFile]:
    """Return the files that go on from an offset, one behind the other: what a backup that was killed has left."""
    by_first: Mapping[int, LogFile] = {each.first: each for each in sorted(files, key=lambda each: each.end)}
    found: list[LogFile] = []
    while (following := by_first.get(at)) is not None and following.end > at:
        found.append(following)
        at = following.end
    return found

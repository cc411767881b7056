"""Restoring logs into a cluster that has none of them: each record under its offset, with its time."""

from __future__ import annotations

import json
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.adapters.exported.reading import ExportFile
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.cluster import BY, OF, log_facts
from pipeline.adapters.kafka.exact.restored import DONE, POINT, Offset, Restored, commit, store
from pipeline.adapters.kafka.exact.topics import create_raw, settle
from pipeline.adapters.kafka.exact.writing import ExactWriter, Part, Written, parts
from pipeline.adapters.kafka.topics import delete_topics, topic_names
from pipeline.adapters.vault import Vault
from pipeline.backup.points import LogFile, Point, place_of
from pipeline.engine.ports import TP
from pipeline.errors import RestoreRefused, TopicError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

Step = Callable[[str, int, int], object]  # (topic, offsets done, offsets in all)
GONE_S = 30.0
TOGETHER = 256  # partitions; a file of each is here meanwhile
CHANGELOG = re.compile(r"(\S+)=(\d+)@([0-9a-f]+)")


class RestoredLogs(NamedTuple):
    """What a restore has done. `kept`: topics that an earlier one, which was killed, had completed."""

    records: int
    topics: int
    kept: int


def restore(
    bootstrap: str, vault: Vault, point: Point, replication: int = -1, step: Step = lambda *_: None
) -> RestoredLogs:
    """Restore the logs of a point. Run again after a kill, it goes on with the topics that are not complete.

    Raises RestoreRefused, BackupError, TopicError, BrokerUnreachable.
    """
    client = admin(bootstrap)
    there, restored = topic_names(client), Restored(bootstrap, client)
    mine = {"cluster": point.cluster, "point": point.number, "made_ms": point.made_ms}
    known = restored.told.get(POINT)
    _check(point, mine, known, there, DONE in restored.told)
    if known is None:
        restored.create(replication)
        restored.note(POINT, mine)
    complete = _complete(client, restored, there & point.topics.keys())
    left = sorted(point.topics.keys() - complete)
    _delete(client, sorted(there & set(left)))
    create_raw(client, {topic: point.topics[topic].partitions for topic in left}, replication)
    # Where services stand is said first: a worker that is started too early sees that offsets are missing, and ends.
    identities = {name: fact.identity for name, fact in log_facts(client, sorted(point.topics)).items()}
    for topic in point.noted.keys() & set(left):
        _note(bootstrap, topic, point.noted[topic], identities)
    todo = sum(point.end.values())
    done = sum(_size(point, topic) for topic in complete)
    writer = ExactWriter(bootstrap, f"pipeline-restore-{point.cluster}-{point.number}")
    with closing(writer), tempfile.TemporaryDirectory(prefix="pipeline-restore-") as folder:
        source = _Source(vault, point, Path(folder))
        for topics in _together(point, left):
            logs = [TP(topic, n) for topic in topics if topic not in point.noted for n in _partitions(point, topic)]
            for at in writer.write({tp: source.parts(tp) for tp in logs}):
                step(topics[0], done + at, todo)
            for topic in topics:
                done += _size(point, topic)
                lows = {} if topic in point.noted else {n: _low(point, topic, n) for n in _partitions(point, topic)}
                settle(client, topic, point.topics[topic].settings, lows)
                restored.note(topic, f"{identities[topic]:x}")
    for group, committed in point.committed.items():
        commit(bootstrap, group, _offsets(committed, identities))
    restored.note(DONE, {**mine, "mark": secrets.token_hex(4)})
    step("done", todo, todo)
    return RestoredLogs(point.records, len(left), len(complete))


def _check(point: Point, mine: object, known: object, there: set[str], done: bool) -> None:
    if known is None and (others := sorted(there & point.topics.keys())):
        raise RestoreRefused(
            f"the cluster has {', '.join(others[:5])} already, and a restore would mix with it; name an empty cluster, "
            "or delete those topics if nothing needs them"
        )
    if known is not None and known != mine:
        raise RestoreRefused(
            f"this cluster was restored, or half of it, from another point: {json.dumps(known)}. Name an empty cluster"
        )
    if done:
        raise RestoreRefused(f"this cluster was restored from point {point.number} already; start its workers")


def _complete(client: AdminClient, restored: Restored, there: set[str]) -> set[str]:
    """Return the topics that an earlier restore has completed."""
    told = {name for name in there if name in restored.told}
    facts = log_facts(client, sorted(told))
    return {name for name in told if restored.told[name] == f"{facts[name].identity:x}"}


def _delete(client: AdminClient, topics: Sequence[str]) -> None:
    """Delete what a killed restore has left; return once it is gone. Raises TopicError."""
    delete_topics(client, topics)
    deadline_s = time.monotonic() + GONE_S
    while left := topic_names(client) & set(topics):
        if time.monotonic() > deadline_s:
            raise TopicError(f"{', '.join(sorted(left)[:5])} was deleted and stays; look at the broker's log")
        time.sleep(0.1)


def _together(point: Point, topics: Sequence[str]) -> Iterator[list[str]]:
    """Divide topics into groups that are written together: a round trip serves all partitions of a group."""
    group, size = list[str](), 0
    for topic in topics:
        group.append(topic)
        size += point.topics[topic].partitions
        if size >= TOGETHER:
            yield group
            group, size = [], 0
    if group:
        yield group


def _partitions(point: Point, topic: str) -> range:
    return range(point.topics[topic].partitions)


def _size(point: Point, topic: str) -> int:
    return sum(point.end[place_of(TP(topic, n))] for n in _partitions(point, topic))


def _low(point: Point, topic: str, partition: int) -> int:
    place = place_of(TP(topic, partition))
    files = point.log_files(place)
    return files[0].first if files else point.low[place]


def _note(bootstrap: str, topic: str, noted: Mapping[str, str], identities: Mapping[str, int]) -> None:
    """Write where a service stands, with the identities that topics have now."""
    records = {}
    for key, value in noted.items():
        told = json.loads(value)
        told["topics"] = {
            name: f"{identities[name]:x}" if name in identities else old for name, old in told["topics"].items()
        }
        records[key] = json.dumps(told)
    store(bootstrap, topic, records)


def _offsets(committed: Mapping[str, tuple[int, str]], identities: Mapping[str, int]) -> list[Offset]:
    """Return a group's offsets as they are to be committed: without owners, which are gone."""

    def moved(found: re.Match[str]) -> str:
        topic, end = found[1], found[2]
        return f"{topic}={end}@{identities[topic]:x}" if topic in identities else found[0]

    offsets = []
    for place, (offset, note) in committed.items():
        topic, _, partition = place.rpartition("/")
        words = [CHANGELOG.sub(moved, word) for word in note.split(" ") if not word.startswith((BY, OF))]
        offsets.append(Offset(TP(topic, int(partition)), offset, " ".join(words)))
    return offsets


class _Source:
    """The records in a backup. `folder`: for one file of each partition at a time."""

    def __init__(self, vault: Vault, point: Point, folder: Path) -> None:
        self._vault, self._point, self._folder = vault, point, folder

    def parts(self, tp: TP) -> Iterator[Part]:
        """Yield what a partition is made of, from offset 0 to its end."""
        place = place_of(tp)
        return parts(self._records(tp, self._point.log_files(place)), self._point.end[place])

    def _records(self, tp: TP, files: Sequence[LogFile]) -> Iterator[Written]:
        path = self._folder / f"{tp.topic}-{tp.partition}.avro"
        for each in files:
            self._vault.get(each.name, path, each.digest)
            for record in ExportFile(path).records(*tp):
                yield Written(*record)
            path.unlink()

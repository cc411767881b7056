"""Backing up logs: what has come since the last point, in files, and then the point that names them all."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.exported.writing import ExportWriter
from pipeline.adapters.json.as_written import known_to
from pipeline.adapters.kafka import QUIET_S, KafkaLogReader, admin
from pipeline.adapters.kafka.cluster import log_facts
from pipeline.adapters.kafka.exact.topics import cluster_id, settings_of
from pipeline.adapters.kafka.resetting import read_notes
from pipeline.adapters.vault import Vault, digest_of
from pipeline.backup.cut import Cut, Cutter, topics_of
from pipeline.backup.points import LogFile, Point, Topic, chained, numbers, place_of, read_point
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP, Record
from pipeline.engine.state.noted import noted_key, noted_value
from pipeline.errors import BackupError, BrokerUnreachable
from pipeline.model import TopicKind
from pipeline.model.records.step_notes import read_step_notes

FILE_RECORDS = 200_000
FILE_BYTES = 16 << 20  # of values; a backup that is killed has lost at most one file
POLL_S = 0.2
BATCH = 10_000
Step = Callable[[str, int, int], object]  # (topic-partition, offsets done, offsets in all)


class Backed(NamedTuple):
    """What a backup has done. `held_s`: for how long services waited."""

    point: Point
    records: int
    files: int
    kept: int
    held_s: float


def back_up(
    bootstrap: str,
    name: str,
    plans: Sequence[ServicePlan],
    registry: Registry,
    vault: Vault,
    step: Step = lambda *_: None,
) -> Backed:
    """Back up the logs of these services, from the last point on. `name`: of the topology.

    Files that a killed backup has left are taken over. Raises ServicesBusy, BackupError, TopicError.
    """
    client = admin(bootstrap)
    before = read_point(vault) if numbers(vault) else None
    topics = topics_of(bootstrap, plans)
    facts, settings = log_facts(client, topics), settings_of(client, topics)
    about = {t: Topic(f"{facts[t].identity:x}", facts[t].partitions, settings[t]) for t in topics}
    _check(vault, before, about)
    cut = Cutter(bootstrap, plans, topics).take()
    point = Point(
        before.number + 1 if before else 1,
        int(1000 * time.time()),
        cluster_id(client),
        name,
        about,
        {place_of(tp): low for tp, low in cut.low.items()},
        {place_of(tp): end for tp, end in cut.end.items()},
        committed={
            g: {place_of(tp): (at.offset, at.note or "") for tp, at in of.items()} for g, of in cut.committed.items()
        },
    )
    with tempfile.TemporaryDirectory(prefix="pipeline-backup-") as folder:
        run = _Run(registry, vault, Path(folder), point, step)
        run.take_over(before)
        with closing(KafkaLogReader(bootstrap, "pipeline-backup")) as reader:
            # The value that a key had at the cut may be compacted away once it has another one: these are read first.
            for tp in sorted(cut.end, key=lambda tp: (not _compacted(tp), tp)):
                run.copy(reader, tp, cut.end[tp])
        for plan in plans:
            point.noted[plan.positions] = _noted(bootstrap, plan, cut)
        vault.write_json(point.name, point.json(), Path(folder))
    step("done", run.todo, run.todo)
    return Backed(point, run.records, run.files, run.kept, cut.held_s)


def _check(vault: Vault, before: Point | None, topics: dict[str, Topic]) -> None:
    others = [t for t, each in topics.items() if before and t in before.topics and before.topics[t][:2] != each[:2]]
    if others:
        raise BackupError(
            f"{vault.url} is the backup of another cluster, or {', '.join(others[:5])} was deleted and created again "
            "since: give another place with --to"
        )


def _compacted(tp: TP) -> bool:
    kind = TopicKind.of(tp.topic)
    return kind is not None and kind.compacted


def _noted(bootstrap: str, plan: ServicePlan, cut: Cut) -> dict[str, str]:
    """Return what the service has noted of each partition, as of the cut."""
    found: dict[str, str] = {}
    at = cut.committed[plan.group]
    for tp, noted in read_notes(bootstrap, plan).items():
        if tp in at:
            value = noted_value(at[tp].offset, noted.standing.text(), read_step_notes(at[tp].note))
            found[noted_key(tp).decode()] = value.decode()
    return found


class _Run:
    """One backup under way."""

    def __init__(self, registry: Registry, vault: Vault, folder: Path, point: Point, step: Step) -> None:
        self._known, self._vault = known_to(registry), vault
        self._folder, self._point, self._step = folder, point, step
        self.records = self.files = self.kept = self.todo = self._done = 0
        self._at: dict[str, int] = {}

    def take_over(self, before: Point | None) -> None:
        """Find what is there of each partition: by the last point, and left by a backup that was killed."""
        left: dict[str, list[LogFile]] = {}
        for name in self._vault.names("logs"):
            if (each := LogFile.parse(name)) is not None:
                left.setdefault(f"{each.topic}/{each.partition}", []).append(each)
        for place, end in self._point.end.items():
            names = list(before.files.get(place, ())) if before else []
            at = before.end.get(place, 0) if before else 0
            identity = self._point.topics[place.rpartition("/")[0]].identity
            # Where retention has deleted what was never backed up, the next file begins behind it.
            begin = at if at >= self._point.low[place] else self._point.low[place]
            for each in chained((each for each in left.get(place, ()) if each.identity == identity), begin):
                if each.end > end or each.name in names:
                    break
                names.append(each.name)
                self.kept += 1
                begin = each.end
            self._point.files[place], self._at[place] = names, begin
            self.todo += max(0, end - begin)

    def copy(self, reader: KafkaLogReader, tp: TP, end: int) -> None:
        """Write files with the records of a partition up to `end`."""
        first = at = self._at[place_of(tp)]
        if first >= end:
            return
        began = self._done
        records = _records(reader, tp, first, end)
        while (record := next(records, None)) is not None:
            at = self._write(tp, at, record, records)
            self._done = began + at - first
        reader.unfollow([tp])
        self._done = began + end - first

    def _write(self, tp: TP, first: int, record: Record, records: Iterator[Record]) -> int:
        """Write one file, and return the offset behind it."""
        path = self._folder / "log.avro"
        size, last, count = 0, first, 0
        chosen = _with_first(record, islice(records, FILE_RECORDS - 1))
        with ExportWriter(path, self._known) as out:
            for each in chosen:
                headers = tuple(each.headers() or ())
                out.write(*tp, each.offset(), each.key(), each.value(), each.timestamp()[1], headers)
                size += len(each.value() or b"") + len(each.key() or b"")
                last, count = each.offset() + 1, count + 1
                if count % 1_000 == 0:
                    self._step(f"{tp.topic}-{tp.partition}", self._done + count, self.todo)
                if size > FILE_BYTES:
                    break
            out.about = {"topics": {tp.topic: tp.partition + 1}, "places": {}}
        file = LogFile(
            tp.topic, self._point.topics[tp.topic].identity, tp.partition, first, last, count, digest_of(path)
        )
        self._vault.put(path, file.name)
        self._point.files[place_of(tp)].append(file.name)
        self.records, self.files = self.records + count, self.files + 1
        self._step(f"{tp.topic}-{tp.partition}", self._done + count, self.todo)
        return last


def _with_first(first: Record, more: Iterator[Record]) -> Iterator[Record]:
    yield first
    yield from more


def _records(reader: KafkaLogReader, tp: TP, first: int, end: int) -> Iterator[Record]:
    """Yield the committed records of a partition from `first` on, to before `end`."""
    reader.follow({tp: first})
    at, heard_s = first, time.monotonic()
    while at < end:
        polled = reader.poll(BATCH, POLL_S)
        for record in polled.batches.get(tp, ()):
            if record.offset() >= end:
                return
            yield record
            at = record.offset() + 1
        if tp in polled.batches:
            heard_s = time.monotonic()
        at = max(at, polled.ends.get(tp, 0))
        if tp in polled.out_of_range:
            raise BackupError(f"{tp.topic}-{tp.partition} lost records before {end} while it was read; back up again")
        if time.monotonic() - heard_s > QUIET_S:
            raise BrokerUnreachable(
                f"{tp.topic}-{tp.partition} cannot be read to {end} within {QUIET_S:.0f} s: the broker is away, or a "
                "producer has left a transaction open; back up again, it goes on where it is"
            )

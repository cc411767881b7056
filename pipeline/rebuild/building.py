"""Folds a version of a projection until it has caught up with its sources. Restarted, it continues where it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from confluent_kafka.admin import AdminClient

from pipeline.adapters.kafka import KafkaGroupConsumer, KafkaLogReader, KafkaProducer, end_offsets
from pipeline.adapters.kafka.group_offsets import GroupOffsets
from pipeline.adapters.kafka.schemas.topic import published
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.drive import drive
from pipeline.engine.context import LanePorts
from pipeline.engine.loop.identity import Identity, make_sure_of, slot_name, topics_word
from pipeline.engine.loop.lane import Lane
from pipeline.engine.loop.supervision import Call, Now, Pause, Step, Turn, supervise
from pipeline.engine.ports import TP, SharedStores
from pipeline.engine.stats import LaneStats
from pipeline.errors import FoldError
from pipeline.rebuild.subject import Subject
from pipeline.worker.secrets import home_word
from pipeline.worker.settings import LEFT_S, MachineClock

LOOK_S = 0.5
LEVEL_S = 5.0  # caught up: all hops were followed to their ends as of this long ago
Report = Callable[[int, int], object]  # (records folded, records in total)


class Progress:
    """The progress of a version's group, from Kafka only. Close it. Calls may raise BrokerUnreachable."""

    def __init__(self, bootstrap: str, client: AdminClient, subject: Subject) -> None:
        counts = partition_counts(client)
        self._client = client
        self._hops = [[TP(topic, n) for topic in hop for n in range(counts[topic])] for hop in subject.hops()]
        self._group = GroupOffsets(bootstrap, subject.plan.group)
        self._hop, self._goal = 0, dict[TP, int]()
        self._began_s = 0.0
        self.begun: int | None = None  # records folded at the first look
        self.done = self.total = 0
        self.level = False

    def look(self) -> None:
        """Look at Kafka. Caught up once all hops, one after the other, have reached their ends of a moment ago."""
        every = [tp for hop in self._hops for tp in hop]
        committed, ends = self._asked(every)
        self.done, self.total = sum(committed.values()), sum(ends.values())
        self.begun = self.done if self.begun is None else self.begun
        if not self._goal:
            self._aim(0, ends)
        while not self.level and all(committed.get(tp, 0) >= goal for tp, goal in self._goal.items()):
            if self._hop + 1 < len(self._hops):
                self._aim(self._hop + 1, ends)
            elif time.monotonic() - self._began_s <= LEVEL_S:
                self.level = True
            else:
                self._aim(0, ends)

    def _aim(self, hop: int, ends: dict[TP, int]) -> None:
        self._hop, self._goal = hop, {tp: ends[tp] for tp in self._hops[hop]}
        if hop == 0:
            self._began_s = time.monotonic()

    def _asked(self, every: list[TP]) -> tuple[dict[TP, int], dict[TP, int]]:
        """Return committed offsets and then the ends of logs: what the commits caused lies below these ends."""
        committed = {tp: each.offset for tp, each in self._group.of_all(every).items()}
        return committed, end_offsets(self._client, every)

    def close(self) -> None:
        """Close the connection."""
        self._group.close()


def watch(progress: Progress, served: Callable[[], object], report: Report, held: Callable[[], str]) -> None:
    """Wait while workers fold it, until it has caught up or `served` is empty.

    `held`: why the workers fold nothing at present, if they do. Raises FoldError with that.
    """
    while not progress.level and served():
        if why := held():
            raise FoldError(why)
        time.sleep(LOOK_S)
        progress.look()
        report(progress.done, progress.total)


def build(
    bootstrap: str,
    subject: Subject,
    state_dir: Path,
    node: str,
    progress: Progress,
    report: Report,
    database: SharedStores | None = None,
) -> None:
    """Fold it in this process, as a member of its group like a worker. Raises the errors that end a worker.

    `database`: of a version that is kept in SQL.
    """
    schemas = published(bootstrap, subject.make)
    slot, stores = claim_slot(state_dir, subject.service.name, None)
    name = slot_name(subject.plan.group, node, slot)
    identity = Identity(name, 0, home_word(state_dir.parent / "home"), topics_word(subject.plan.source_topics))
    stats, clock, looked_s = LaneStats(), MachineClock(), time.monotonic()

    def open_lane() -> Lane:
        with ExitStack() as unfinished:  # clients that are closed again if the next one cannot be opened
            consumer = KafkaGroupConsumer(bootstrap, subject.plan.group, str(identity), subject.service.name)
            unfinished.callback(consumer.close)
            make_sure_of(identity, consumer, clock, time.sleep, LEFT_S["classic"])
            producer = KafkaProducer(bootstrap, name)
            unfinished.callback(producer.close)
            reader = KafkaLogReader(bootstrap, f"{name}-reader")
            unfinished.pop_all()
        replays = partial(KafkaLogReader, bootstrap, f"{name}-replay")
        return Lane(subject.plan, LanePorts(consumer, producer, reader, stores, clock, replays, database), stats=stats)

    def do(step: Step) -> Lane | Now | None:
        nonlocal looked_s
        match step:
            case Call(call):
                return call()
            case Turn(lane):
                lane.turn()
                if stats.held:  # nobody could resume it here
                    raise FoldError(stats.held_why)
                if time.monotonic() - looked_s >= LOOK_S:
                    looked_s = time.monotonic()
                    progress.look()
                    report(progress.done, progress.total)
            case Pause(seconds):
                time.sleep(seconds)
        return Now(time.monotonic(), progress.level)

    try:
        drive(supervise(subject.service.name, stats, open_lane), do)
    finally:
        if schemas is not None:
            schemas.close()
        stores.close()

"""`pipeline verify` judges the same histories: two judges that share one class between them, and must agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from pipeline.engine.ports import TP
from pipeline.model import BARRIER, TopicKind
from pipeline.server.reads.local_tables import row_json
from pipeline.testing.simulation import from_seed
from pipeline.testing.simulation.simulation import known_oracle
from pipeline.testing.simulation.world import World
from pipeline.verify import Entry, judge
from pipeline.verify.sources.history import Kept, Stored, read_whole
from tests.simulation.worlds.planted import PLANTED, seed_that_finds
from tests.simulation.worlds.tills import TOPOLOGY, Code, commands


class SimulatedHistory:
    """A `History` of a simulated world in which everything has settled."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rows: dict[tuple[str, int], dict[str, Any]] = {}
        for worker in world.workers:
            for (table, partition), view in (worker.lane.views if worker.lane else {}).items():
                engines = TopicKind.REPLIES, TopicKind.DEADLINES, TopicKind.QUEUE
                if view.copy is None and TopicKind.of(table) not in engines:
                    pairs = view.store.scan(view.prefix, view.prefix, 10**9)
                    self._rows[table, partition] = {
                        key[len(view.prefix) :].decode(): json.loads(json.dumps(row_json(view.codec.decode(value))))
                        for key, value in pairs
                    }

    def partitions(self, topic: str) -> int:
        return len(self._world.kafka.topics[topic].logs)

    def committed(self, service: str, tp: TP) -> int | None:
        position = self._world.kafka.group(service).offsets.get(tp)
        return None if position is None else position.offset

    bound = committed

    def low(self, tp: TP) -> int:
        assert tp.topic in self._world.kafka.topics
        return 0  # the archive has everything

    def end(self, tp: TP) -> int:
        return self._world.kafka.log(tp).end

    def records(self, tp: TP) -> Iterator[Entry]:
        for r in self._world.kafka.log(tp).archive:
            if r.decided:
                yield Entry(r.offset(), r.key(), r.value(), r.timestamp()[1], tuple(r.headers() or ()))

    def kept(self, topic: str) -> Kept:
        return read_whole(self, topic)

    def rows(self, table: str, partition: int) -> dict[str, Any] | None:
        return self._rows.get((table, partition), {})

    def stored(self, service: str) -> dict[TP, Stored]:
        found = {}
        for worker in self._world.workers:
            if worker.lane and worker.plan.service.name == service:
                for name, each in worker.lane.positions().items():
                    topic, _, number = name.rpartition("-")
                    found[TP(topic, int(number))] = Stored(each["source"], each["changelogs"])
        return found

    def wait(self) -> bool:
        return False


class JudgedTwice(World):
    """Takes the second opinion before the workers are ended."""

    second: list[str]

    def close(self) -> None:
        self.second = [str(finding) for finding in judge(SimulatedHistory(self), self.oracle.topology).findings]
        super().close()


def opinions(seed: int) -> tuple[bool, bool]:
    """Whether each judge finds something wrong."""
    world = JudgedTwice(known_oracle(TOPOLOGY), from_seed(seed, commands), mend=Code.mend)
    return bool(world.run()), bool(world.second)


def test_both_find_nothing() -> None:
    assert {opinions(seed) for seed in range(100)} == {(False, False)}


def test_barriers_are_nothing_to_either() -> None:
    folded = 0
    for seed in range(12):
        world = JudgedTwice(known_oracle(TOPOLOGY), from_seed(seed, commands))
        for log in world.kafka.topics["tills.command"].logs:
            for at_s in (0.05, 0.5, 2.0, 5.0):
                world.kafka.clock.later(at_s, partial(world.kafka.append, log.tp, None, None, [BARRIER]))
        assert (world.run(), world.second) == ([], [])
        folded += sum(worker.stats.barriers for worker in world.workers)
    assert folded > 0


@pytest.mark.parametrize(
    "name",
    [
        "a_scheduled_command_is_decided_and_goes_on_waiting",
        "changes_kept_after_an_abort",
        "deadlines_are_fired_outside_of_the_transaction",
        "no_fence_on_a_stale_generation",
        "offsets_not_in_the_transaction",
        "position_kept_after_an_abort",
        "position_moved_before_the_fold",
        "a_record_overtakes_those_that_wait",
        "a_redrive_acts_twice",
        "nodes_that_have_folded_a_record_fold_it_again",
    ],
)
def test_both_find_something(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[name](monkeypatch)
    assert opinions(seed_that_finds(name, lambda seed: any(opinions(seed)))) == (True, True)

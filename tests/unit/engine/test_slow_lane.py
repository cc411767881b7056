"""Slow is not broken: how much a lane takes, for how long it folds, aborts in a row, take-overs, names held twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.memory import MemoryGroupConsumer, MemoryKafka, MemoryLogReader, MemoryProducer, MemoryStores
from pipeline.adapters.memory.transactions import TRANSACTION_S
from pipeline.engine.context import LanePorts, LaneSettings
from pipeline.engine.loop.identity import LOOK_S, Identity, make_sure_of, topics_word
from pipeline.engine.loop.lane import YIELD_S, Lane
from pipeline.engine.loop.pace import FIRST, PAUSES_S, TURN_S, TURN_S_MAX, Pace
from pipeline.engine.parking.parking_log import Audit
from pipeline.engine.plan import ServicePlan, command_codec
from pipeline.engine.ports import TP, Polled, Positions, Record
from pipeline.engine.stats import LaneStats
from pipeline.errors import BrokerUnreachable, LaneFatal, NameTaken, TransactionAborted
from pipeline.model.records.messages import CommandMessage
from pipeline.model.records.partitioning import partition_of
from tests.simulation.worlds import tills as t

COMMANDS = TP("tills.command", 0)
MAKE = codecs(t.TOPOLOGY.schemas)


class Shop:
    """The tills on a Kafka in memory. `decide_s`: how long a decision takes."""

    def __init__(self, partitions: int = 1) -> None:
        self.kafka, self.decide_s = MemoryKafka(), 0.0
        aggregate = replace(t.tills, decide=self._decide)
        self.service = replace(t.TILLS, aggregates=[aggregate])
        for topic, kind in self.plan().own_topics():
            self.kafka.create_topic(topic, partitions, compacted=kind.compacted)

    def _decide(self, command: Any, till: t.Till) -> Any:
        self.kafka.clock.advance(self.decide_s)
        return t.decide_till(command, till)

    def plan(self) -> ServicePlan:
        return ServicePlan(self.service, MAKE, t.TOPOLOGY.names)

    def send(self, count: int, amount: int = 1, partition: int = 0) -> None:
        encode = command_codec(MAKE, t.tills).encode
        partitions = self.kafka.facts(COMMANDS.topic).partitions
        key = next(key for n in range(1, 99) if partition_of(key := f"till-{n}".encode(), partitions) == partition)
        for n in range(count):
            message = CommandMessage(f"c{n}", f"c{n}", "", self.kafka.clock.time_ms(), t.Take(amount), None, None, None)
            self.kafka.append(TP(COMMANDS.topic, partition), key, encode(message))

    def lane(
        self,
        name: str = "tills-0",
        producer: MemoryProducer | None = None,
        consumer: MemoryGroupConsumer | None = None,
        stats: LaneStats | None = None,
        **settings: Any,
    ) -> Lane:
        kafka = self.kafka
        ports = LanePorts(
            consumer or MemoryGroupConsumer(kafka, "tills", str(Identity(name, 0, "home"))),
            producer or MemoryProducer(kafka, name),
            MemoryLogReader(kafka, name),
            MemoryStores(),
            kafka.clock,
            lambda: MemoryLogReader(kafka, name),
        )
        lane = Lane(self.plan(), ports, LaneSettings(**settings), stats)
        lane.open()
        return lane

    def turn(self, lanes: Lane | Sequence[Lane], there: Callable[[], bool]) -> int:
        """Turns until that is so; returns how many that took."""
        for n in range(2_000):
            if there():
                return n
            for lane in lanes if isinstance(lanes, Sequence) else [lanes]:
                lane.turn()
        pytest.fail("it never comes to that")

    def committed(self) -> int:
        position = self.kafka.group("tills").offsets.get(COMMANDS)
        return 0 if position is None else position.offset

    def taken(self) -> int:
        return sum(record.decided for record in self.kafka.log(TP("tills.event", 0)).archive)


@pytest.fixture
def shop() -> Iterator[Shop]:
    t.Code.mend(True)
    yield Shop()
    t.Code.mend(True)


@pytest.mark.parametrize("decide_s", [0.003, 0.05, 2.0])
def test_a_slow_decision_is_committed_within_the_budget_however_much_waits(shop: Shop, decide_s: float) -> None:
    open_s: list[float] = []
    transactions = shop.kafka.transactions
    end = transactions.end

    def ending(name: str, epoch: int, *, commit: bool) -> None:
        began_s = transactions.open_since().get(name)
        open_s.append(0.0 if began_s is None else shop.kafka.clock.now_s - began_s)
        end(name, epoch, commit=commit)

    transactions.end = ending  # type: ignore[method-assign]
    shop.decide_s = decide_s
    shop.send(300)
    lane = shop.lane()
    shop.turn(lane, lambda: shop.committed() == 300)
    assert max(open_s) <= TURN_S + 2 * decide_s + 0.1, "no transaction stays open for longer than a turn may fold"
    assert shop.taken() == 300
    assert lane.stats.aborts == 0


def test_what_a_turn_had_no_time_for_is_folded_next_and_once(shop: Shop) -> None:
    shop.send(FIRST)
    shop.decide_s = 0.3
    lane = shop.lane()
    shop.turn(lane, lambda: shop.committed() > 0)
    assert 0 < shop.committed() < 10
    shop.turn(lane, lambda: shop.committed() == FIRST)
    assert shop.taken() == FIRST


def test_it_takes_little_while_that_is_slow_and_much_again_once_it_is_fast(shop: Shop) -> None:
    asked: list[int] = []
    lane = shop.lane()
    poll = lane._consumer.poll

    def polling(records: int, *rest: Any) -> Any:
        asked.append(records)
        return poll(records, *rest)

    lane._consumer.poll = polling  # type: ignore[method-assign]
    shop.send(3_000)
    shop.decide_s = 0.1
    shop.turn(lane, lambda: shop.committed() > 100)
    assert asked[-1] <= 2 * TURN_S / 0.1
    shop.decide_s = 0.001
    shop.turn(lane, lambda: shop.committed() == 3_000)
    assert max(asked[-5:]) > 100


def test_a_record_that_outlives_a_transaction_stops_nobody_for_ever(shop: Shop) -> None:
    """What was folded before it in one transaction cannot be committed any more: that has timed out."""
    shop.send(40)

    def decide(command: Any, till: t.Till) -> Any:
        shop.kafka.clock.advance(TRANSACTION_S + 5.0 if till.total == 20 else 0.0)
        return t.decide_till(command, till)

    shop.service = replace(t.TILLS, aggregates=[replace(t.tills, decide=decide)])
    stats = LaneStats()
    while shop.committed() < 40:
        lane = shop.lane(stats=stats)
        try:
            shop.turn(lane, lambda: shop.committed() == 40)
        except LaneFatal as error:
            lane.abandon(error)
            stats.reopened += 1
            assert stats.reopened < 10
    assert shop.taken() == 40
    assert stats.reopened, "it has happened"


def test_a_slow_commit_gives_a_turn_more_time_and_a_bound() -> None:
    pace = Pace(4_000, 50_000)
    pace.committed(3.0)
    assert pace.budget_s == 6.0
    pace.committed(300.0)
    assert pace.budget_s == TURN_S_MAX
    pace.committed(0.01)
    assert pace.budget_s == TURN_S


def test_the_pace_never_takes_nothing_and_never_more_than_it_may() -> None:
    pace = Pace(100, 50_000)
    for times in range(1, 50):
        assert pace.aborted(times) == PAUSES_S[min(times, len(PAUSES_S)) - 1]
        pace.folded(1, 100.0)
        assert pace.take == 1
    for _ in range(50):
        pace.folded(pace.take, 0.0)
        pace.committed(0.01)
    assert (pace.take, pace.commit_after) == (100, 50_000)


class FetchingAhead(MemoryGroupConsumer):
    """As librdkafka does, it gives out what it has fetched, of all partitions, first come first served."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._fetched: deque[tuple[TP, Record]] = deque()

    def poll(self, records_max: int, timeout_s: float, gather_s: float = 0) -> Polled:
        polled = super().poll(1_000, 0 if self._fetched else timeout_s)
        for tp in [*polled.batches]:
            self._fetched += [(tp, record) for record in polled.batches.pop(tp)]
        polled.ends.clear()
        for _ in range(min(records_max, len(self._fetched))):
            tp, record = self._fetched.popleft()
            polled.batches.setdefault(tp, []).append(record)
        return polled

    def start(self, partition: TP, offset: int | None) -> None:
        self._fetched = deque(each for each in self._fetched if each[0] != partition)
        super().start(partition, offset)


def test_no_slow_partition_keeps_the_others_waiting() -> None:
    shop = Shop(partitions=2)
    consumer = FetchingAhead(shop.kafka, "tills", str(Identity("tills-0", 0, "home")))
    lane = shop.lane(consumer=consumer)
    for n in range(2):
        shop.send(400, partition=n)
    shop.decide_s = 0.1
    apart, offsets = [], shop.kafka.group("tills").offsets

    def both() -> bool:
        one, other = (offsets[tp].offset if (tp := TP(COMMANDS.topic, n)) in offsets else 0 for n in range(2))
        apart.append(abs(one - other))
        return one == other == 400

    shop.turn(lane, both)
    assert max(apart) < 3 * YIELD_S / shop.decide_s


def test_a_slow_redrive_is_committed_within_the_budget_and_goes_on_when_asked_again(shop: Shop) -> None:
    t.Code.mend(False)
    lane = shop.lane(raising_share=1.0)
    shop.send(100, 6)
    shop.turn(lane, lambda: shop.committed() == 100)
    t.Code.mend(True)
    shop.decide_s = 1.0
    began_s, done, left = shop.kafka.clock.now_s, 0, 100
    while left:
        drained = lane.redrive(COMMANDS, b"till-1", 100, Audit("operator", "decide is mended"))
        assert shop.kafka.clock.now_s - began_s <= TURN_S + 2 * shop.decide_s
        began_s, done, left = shop.kafka.clock.now_s, done + drained.done, drained.left
        assert drained.cause is None
    assert (done, shop.taken()) == (100, 100)


class Refusing(MemoryProducer):
    """A broker that commits only transactions of few records."""

    records_max, produced = 0, 0

    def begin(self) -> None:
        self.produced = 0
        super().begin()

    def produce(self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
        self.produced += 1
        super().produce(topic, key, value, partition)

    def commit(self, positions: Positions, group: object, patience_s: float = 60.0) -> None:
        if self.produced > self.records_max:
            raise TransactionAborted("the broker has not taken it in time")
        super().commit(positions, group, patience_s)


def test_after_aborts_it_gets_on_in_smaller_steps_with_pauses_between(shop: Shop) -> None:
    producer = Refusing(shop.kafka, "tills-0")
    lane = shop.lane(producer=producer)
    producer.records_max = 1_000
    shop.turn(lane, lambda: bool(lane._tasks.running()))
    producer.records_max = 12
    shop.send(FIRST)
    began_s = shop.kafka.clock.now_s
    shop.turn(lane, lambda: shop.committed() == FIRST)
    assert shop.taken() == FIRST
    assert lane.stats.aborts >= 2
    assert shop.kafka.clock.now_s - began_s >= PAUSES_S[1], "the second abort in a row is followed by a pause"


# --- partitions that are taken over -----------------------------------------------------------------------------------


def test_what_a_dead_member_has_left_open_is_ended_by_whoever_takes_over() -> None:
    t.Code.mend(True)
    shop = Shop(partitions=2)
    dead, heir = shop.lane("tills-0"), shop.lane("tills-1")
    shop.turn([dead, heir], lambda: len(dead._tasks.running()) == len(heir._tasks.running()) == 4 // 2)
    events = shop.kafka.log(TP("tills.event", 0))
    shop.send(4)
    for batch in dead.poll():
        dead.fold(batch)
    dead._producer.flush(1)
    assert events.stable_end < events.end, "it dies with its transaction open"
    died_s = shop.kafka.clock.now_s
    dead._consumer.silence()  # type: ignore[attr-defined]
    shop.turn(heir, lambda: shop.committed() == 4)
    shop.turn(heir, lambda: events.stable_end == events.end)
    assert shop.kafka.clock.now_s - died_s < 10


def test_a_member_that_lives_is_not_fenced_when_its_partitions_move() -> None:
    t.Code.mend(True)
    shop = Shop(partitions=2)
    first = shop.lane("tills-0")
    shop.send(3)
    shop.turn(first, lambda: shop.committed() == 3)
    second = shop.lane("tills-1")
    shop.turn([first, second], lambda: len(first._tasks.running()) == len(second._tasks.running()) == 2)
    shop.send(3)
    shop.turn([first, second], lambda: shop.committed() == 6)
    assert (first.stats.aborts, second.stats.aborts) == (0, 0)


def test_a_partition_has_an_owner_before_anything_is_folded_there(shop: Shop) -> None:
    lane = shop.lane("tills-0")
    shop.turn(lane, lambda: bool(lane._tasks.running()))
    assert lane._consumer.owners([COMMANDS]) == {COMMANDS: ("tills-0",)}


# --- names ------------------------------------------------------------------------------------------------------------


def joined(kafka: MemoryKafka, identity: Identity) -> MemoryGroupConsumer:
    kafka.create_topic("topic", 1)
    consumer = MemoryGroupConsumer(kafka, "tills", str(identity))

    class Nobody:
        def assigned(self, _: Sequence[TP]) -> None: ...

        revoked = lost = assigned

    consumer.subscribe(["topic"], Nobody())
    consumer.poll(1, 0)
    return consumer


def test_a_name_that_another_home_has_is_refused_before_its_producer_is_opened() -> None:
    kafka = MemoryKafka()
    joined(kafka, Identity("tills-node-0", 80, "here"))
    asking = MemoryGroupConsumer(kafka, "tills", "")
    with pytest.raises(NameTaken, match=r"'tills-node-0'.*--node"):
        make_sure_of(Identity("tills-node-0", 81, "elsewhere"), asking, kafka.clock, kafka.clock.advance, 9.0)


def test_the_remains_of_a_dead_namesake_are_waited_for() -> None:
    kafka = MemoryKafka()
    joined(kafka, Identity("tills-node-0", 80, "gone")).silence()
    asking = MemoryGroupConsumer(kafka, "tills", "")
    make_sure_of(Identity("tills-node-0", 81, "here"), asking, kafka.clock, kafka.clock.advance, 9.0)
    assert 6.0 <= kafka.clock.now_s <= 7.0 + LOOK_S


def test_one_that_comes_back_to_its_home_does_not_wait() -> None:
    kafka = MemoryKafka()
    joined(kafka, Identity("tills-node-0", 80, "here"))
    before_s = kafka.clock.now_s
    asking = MemoryGroupConsumer(kafka, "tills", "")
    make_sure_of(Identity("tills-node-0", 81, "here"), asking, kafka.clock, kafka.clock.advance, 9.0)
    assert kafka.clock.now_s == before_s


def test_a_coordinator_that_is_slow_is_asked_again() -> None:
    kafka = MemoryKafka()
    asking = MemoryGroupConsumer(kafka, "tills", "")
    answers = [BrokerUnreachable("the broker does not say who is in the group"), None]

    def members() -> set[str]:
        if (error := answers.pop(0)) is not None:
            raise error
        return set()

    asking.members = members  # type: ignore[method-assign]
    make_sure_of(Identity("tills-node-0", 81, "here"), asking, kafka.clock, kafka.clock.advance, 9.0)
    assert not answers


@pytest.mark.parametrize("text", ["", "tills", "tills-0", "tills-0-x-home", "-1-home"])
def test_a_member_that_is_no_lane_has_no_name(text: str) -> None:
    assert Identity.parse(text) is None


def test_a_name_may_have_dashes() -> None:
    identity = Identity("order-lines-my-host.local-12", 8080, "ab12cd34")
    assert Identity.parse(str(identity)) == identity


def test_one_with_other_topics_is_another_member_of_the_same_name_and_home() -> None:
    before, after = (Identity("tills-node-0", 80, "ab12", topics_word(topics)) for topics in (["a"], ["a", "b"]))
    assert str(before) != str(after)
    assert [Identity.parse(str(each)) for each in (before, after)] == [before, after]
    kafka = MemoryKafka()
    joined(kafka, before)
    asking = MemoryGroupConsumer(kafka, "tills", "")
    make_sure_of(after, asking, kafka.clock, kafka.clock.advance, 9.0)

"""What a dead owner has left open is ended soon, whatever happens to those who take its partition over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pipeline.adapters.memory import SESSION_S, MemoryProducer
from pipeline.engine.loop.lane import Lane
from pipeline.engine.loop.takeover import AGAIN_S, COMES_BACK_S, TRIES_MAX
from pipeline.engine.ports import TP, Positions
from pipeline.errors import BrokerUnreachable, LaneFatal, TransactionAborted
from tests.simulation.worlds import tills as t
from tests.unit.engine.test_slow_lane import COMMANDS, Shop

EVENTS = TP("tills.event", 0)


class Crew:
    """Workers of the tills, and the log that they write."""

    def __init__(self, partitions: int = 1) -> None:
        self.shop = Shop(partitions)
        self.kafka, self.events = self.shop.kafka, self.shop.kafka.log(EVENTS)

    @property
    def now_s(self) -> float:
        return self.kafka.clock.now_s

    @property
    def is_open(self) -> bool:
        return self.events.stable_end < self.events.end

    def until(self, lanes: Sequence[Lane], there: Callable[[], bool], seconds: float) -> float:
        """Turns until that is so, for so many seconds at most. Returns how many it took."""
        began_s = self.now_s
        while not there() and self.now_s < began_s + seconds:
            for lane in lanes:
                lane.turn()
            self.kafka.clock.advance(0.01)
        return self.now_s - began_s

    def running(self, name: str, *others: Lane, **more: Any) -> Lane:
        """A lane that has the partition; it has turned no more than it needs for that."""
        lane = self.shop.lane(name, **more)
        self.until([lane, *others], lambda: bool(lane._tasks.running()), 2 * SESSION_S)
        assert lane._tasks.running()
        return lane

    def die_open(self, lane: Lane) -> None:
        """It folds something, and is killed before it commits that."""
        self.shop.send(4)
        self.fold_once(lane)
        assert self.is_open
        self.die(lane)

    def fold_once(self, lane: Lane) -> None:
        """The first batch that it gets."""
        batches = next(filter(None, (lane.poll() for _ in range(100))))
        for batch in batches:
            lane.fold(batch)
        lane._producer.flush(1)

    def die(self, lane: Lane) -> None:
        lane._consumer.silence()  # type: ignore[attr-defined]


@pytest.fixture
def crew() -> Crew:
    t.Code.mend(True)
    return Crew()


def test_who_takes_over_dies_before_it_knows_who_is_gone(crew: Crew) -> None:
    crew.die_open(crew.running("tills-0"))
    heir = crew.running("tills-1")
    crew.until([heir], lambda: False, COMES_BACK_S / 3)
    assert crew.is_open, "it cannot know yet"
    crew.die(heir)
    last = crew.running("tills-2")
    assert crew.until([last], lambda: not crew.is_open, 60) < COMES_BACK_S + 1


def test_who_takes_over_is_opened_again_before_it_knows_who_is_gone(crew: Crew) -> None:
    crew.die_open(crew.running("tills-0"))
    heir = crew.running("tills-1")
    assert crew.is_open
    heir.abandon(BrokerUnreachable("it does not say who is in the group"))
    assert crew.until([crew.running("tills-1")], lambda: not crew.is_open, 60) < COMES_BACK_S + 1


def test_who_takes_over_is_expelled_itself_before_it_knows_who_is_gone(crew: Crew) -> None:
    crew.die_open(crew.running("tills-0"))
    heir = crew.running("tills-1")
    assert crew.is_open
    heir._consumer.expel()  # type: ignore[attr-defined]
    assert crew.until([heir], lambda: not crew.is_open, 60) < COMES_BACK_S + 1


def test_a_former_owner_is_noted_no_more_once_it_was_looked_for(crew: Crew) -> None:
    crew.die_open(crew.running("tills-0"))
    heir = crew.running("tills-1")
    assert heir._consumer.owners([COMMANDS]) == {COMMANDS: ("tills-1", "tills-0")}
    crew.until([heir], lambda: not crew.is_open, 60)
    crew.shop.send(1)
    crew.until([heir], lambda: crew.shop.committed() == 5, 10)
    assert heir._consumer.owners([COMMANDS]) == {COMMANDS: ("tills-1",)}


def test_a_spare_member_has_seen_who_went(crew: Crew) -> None:
    first = crew.running("tills-0")
    spare = crew.shop.lane("tills-1")
    crew.until([first, spare], lambda: False, 2 * COMES_BACK_S)
    assert first._tasks.running()
    assert not spare._tasks.running()
    crew.die_open(first)
    assert crew.until([spare], lambda: not crew.is_open, 60) < SESSION_S + 1


def test_a_partition_whose_owner_is_not_noted_is_claimed(crew: Crew) -> None:
    """As after a version that noted none, or after an operator has set the offset."""
    crew.running("tills-0").close()
    crew.kafka.group("tills").owners.clear()
    heir = crew.running("tills-1")
    assert heir._consumer.owners([COMMANDS]) == {COMMANDS: ("tills-1",)}


class Hindered(MemoryProducer):
    """Its first commits are aborted; fencing fails so often, and `fenced` says when it was tried."""

    aborts, failures = 0, 0
    fenced: Sequence[tuple[float, str]] = ()

    def commit(self, positions: Positions, group: object, patience_s: float = 60.0) -> None:
        if self.aborts:
            self.aborts -= 1
            raise TransactionAborted("the coordinator has moved")
        super().commit(positions, group, patience_s)

    def fence(self, name: str) -> None:
        self.fenced = (*self.fenced, (self._kafka.clock.now_s, name))
        if self.failures:
            self.failures -= 1
            raise LaneFatal("the broker does not answer")
        super().fence(name)


def test_nothing_is_folded_before_the_claim_is_committed(crew: Crew) -> None:
    producer = Hindered(crew.kafka, "tills-0")
    producer.aborts = 3
    crew.shop.send(2)
    lane = crew.shop.lane("tills-0", producer=producer)
    crew.fold_once(lane)
    assert not producer.aborts
    assert lane._consumer.owners([COMMANDS]) == {COMMANDS: ("tills-0",)}
    crew.until([lane], lambda: crew.shop.committed() == 2, 10)
    assert crew.shop.taken() == 2


def test_who_could_not_be_fenced_is_tried_again_and_not_for_ever(crew: Crew) -> None:
    crew.die_open(crew.running("tills-0"))
    producer = Hindered(crew.kafka, "tills-1")
    producer.failures = 2
    heir = crew.running("tills-1", producer=producer)
    crew.until([heir], lambda: not crew.is_open, 60)
    assert len(producer.fenced) == 3
    assert producer.fenced[-1][0] - producer.fenced[0][0] < 2 * AGAIN_S + 1


def test_who_cannot_be_fenced_at_all_is_left_to_its_time_out(crew: Crew) -> None:
    crew.kafka.group("tills").owners[COMMANDS] = ("tills-7",)
    producer = Hindered(crew.kafka, "tills-1")
    producer.failures = 1_000
    lane = crew.running("tills-1", producer=producer)
    crew.until([lane], lambda: False, COMES_BACK_S + (TRIES_MAX + 3) * AGAIN_S)
    assert [name for _, name in producer.fenced] == ["tills-7"] * TRIES_MAX


def test_several_that_are_gone_are_fenced_one_a_turn(crew: Crew) -> None:
    """The broker may take its time to answer, and the partitions here are not to stand still for as long."""
    crew.kafka.group("tills").owners[COMMANDS] = ("tills-7", "tills-8", "tills-9")
    producer = Hindered(crew.kafka, "tills-1")
    lane = crew.running("tills-1", producer=producer)
    crew.until([lane], lambda: bool(producer.fenced), 60)
    for count in (1, 2, 3, 3):
        assert [name for _, name in producer.fenced] == ["tills-7", "tills-8", "tills-9"][:count]
        lane.turn()


def test_who_is_not_told_as_a_member_itself_fences_nobody(crew: Crew) -> None:
    """All that were expelled together come back one after the other."""
    crew.kafka.group("tills").owners[COMMANDS] = ("tills-7",)
    producer = Hindered(crew.kafka, "tills-1")
    lane = crew.running("tills-1", producer=producer)
    members = lane._consumer.members
    lane._consumer.members = set  # type: ignore[method-assign]
    crew.until([lane], lambda: False, 2 * COMES_BACK_S)
    assert not producer.fenced
    lane._consumer.members = members  # type: ignore[method-assign]
    lane.turn()
    assert producer.fenced


# --- who lives is left in peace ---------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Crew:
    t.Code.mend(True)
    return Crew(partitions=2)


def both(crew: Crew) -> tuple[list[Lane], list[Hindered]]:
    """Two lanes that share the partitions, and their producers."""
    producers = [Hindered(crew.kafka, f"tills-{n}") for n in range(2)]
    lanes = [crew.running(producers[0].name, producer=producers[0])]
    crew.until(lanes, lambda: False, 2 * COMES_BACK_S)
    lanes.append(crew.shop.lane(producers[1].name, producer=producers[1]))
    crew.until(lanes, lambda: all(len(lane._tasks.running()) == 2 for lane in lanes), 2 * COMES_BACK_S)
    return lanes, producers


def test_who_has_given_a_partition_up_and_lives_is_not_fenced(pair: Crew) -> None:
    lanes, producers = both(pair)
    pair.until(lanes, lambda: False, 2 * COMES_BACK_S)
    assert not producers[0].fenced
    assert not producers[1].fenced


def test_members_that_were_expelled_together_do_not_fence_one_another(pair: Crew) -> None:
    lanes, producers = both(pair)
    pair.until(lanes, lambda: False, 2 * COMES_BACK_S)
    for lane in lanes:
        lane._consumer.expel()  # type: ignore[attr-defined]
    pair.until(lanes[:1], lambda: len(lanes[0]._tasks.running()) == 4, COMES_BACK_S / 2)
    assert len(lanes[0]._tasks.running()) == 4, "the first to come back gets all"
    pair.until(lanes, lambda: False, 2 * COMES_BACK_S)
    assert all(len(lane._tasks.running()) == 2 for lane in lanes)
    assert not producers[0].fenced
    assert not producers[1].fenced


def test_a_claim_is_forgotten_with_its_partition(pair: Crew) -> None:
    """Else what is due there would wait for it for ever."""
    producer = Hindered(pair.kafka, "tills-0")
    producer.aborts = 2
    lane, other = pair.shop.lane("tills-0", producer=producer), pair.shop.lane("tills-1")
    while producer.aborts == 2:
        lane.poll()
    other.turn()
    lane.poll()  # its claim is aborted again, and then it hears that another has come
    assert not producer.aborts
    pair.until([lane, other], lambda: len(other._tasks.running()) == 2, 2 * COMES_BACK_S)
    pair.shop.send(1, 6)  # sets a deadline
    pair.until([lane, other], lambda: not lane.stats.deadlines_fired, 1)
    pair.until([lane, other], lambda: bool(lane.stats.deadlines_fired), 10)
    assert lane.stats.deadlines_fired

"""A lane that ends hands its partitions over where another can take them; alone, it keeps them for a restart."""

from __future__ import annotations

import pytest

from pipeline.adapters.memory import SESSION_S
from pipeline.engine.loop.lane import Lane
from pipeline.errors import BrokerUnreachable
from tests.simulation.worlds import tills as t
from tests.unit.engine.test_slow_lane import COMMANDS
from tests.unit.engine.test_takeover import Crew, Hindered

SOON_S = 1.0


class Pair(Crew):
    """Two lanes, each with half of the four partitions of two topics, and their producers."""

    def __init__(self, **settings: str) -> None:
        super().__init__(partitions=2)
        self.producers = [Hindered(self.kafka, f"tills-{n}") for n in range(2)]
        self.lanes = [self.shop.lane(p.name, producer=p, **settings) for p in self.producers]
        self.until(self.lanes, lambda: False, 2 * SESSION_S)  # each knows who is gone, and has looked
        assert [len(lane._tasks.running()) for lane in self.lanes] == [2, 2]

    @property
    def group(self) -> set[str]:
        return {member.instance for member in self.kafka.group("tills").members.values()}

    def taken_over_s(self, lane: Lane) -> float:
        """How long it takes until that lane folds all partitions."""
        took_s = self.until([lane], lambda: len(lane._tasks.running()) == 4, 4 * SESSION_S)
        assert len(lane._tasks.running()) == 4
        return took_s


@pytest.fixture(autouse=True)
def _mended() -> None:
    t.Code.mend(True)


def test_another_member_has_the_partitions_within_a_second() -> None:
    pair = Pair()
    ending, heir = pair.lanes
    pair.shop.send(10)
    ending.close()
    assert pair.taken_over_s(heir) < SOON_S
    pair.until([heir], lambda: pair.shop.committed() == 10, SOON_S)
    assert pair.shop.committed() == 10


def test_who_has_left_in_good_order_is_not_fenced() -> None:
    """It may be on its way back, with a producer that is open already."""
    pair = Pair()
    ending, heir = pair.lanes
    tp = next(task.tp for task in ending._tasks.running())
    ending.close()
    assert heir._consumer.owners([tp]).get(tp, ()) == (), "nothing of it is open any more"
    pair.taken_over_s(heir)
    back = Hindered(pair.kafka, "tills-0")
    pair.until([heir], lambda: False, 2 * SESSION_S)
    assert not pair.producers[1].fenced
    again = pair.shop.lane("tills-0", producer=back)
    pair.until([heir, again], lambda: len(again._tasks.running()) == 2, 2 * SESSION_S)
    pair.shop.send(10)
    pair.until([heir, again], lambda: pair.shop.committed() == 10, SOON_S)
    assert pair.shop.committed() == 10
    assert not back.aborts


def test_who_could_not_commit_its_leave_is_looked_after() -> None:
    pair = Pair()
    ending, heir = pair.lanes
    pair.producers[0].aborts = 1
    ending.close()
    assert pair.taken_over_s(heir) < SOON_S
    pair.until([heir], lambda: bool(pair.producers[1].fenced), 2 * SESSION_S)
    assert [name for _, name in pair.producers[1].fenced] == ["tills-0"]


def test_the_only_member_stays_for_a_restart_in_its_slot() -> None:
    crew = Crew()
    crew.running("tills-0").close()
    group = crew.kafka.group("tills")
    generation = group.generation
    again = crew.shop.lane("tills-0")
    assert crew.until([again], lambda: bool(again._tasks.running()), SESSION_S) < SOON_S
    assert group.generation == generation
    assert again._consumer.owners([COMMANDS]) == {COMMANDS: ("tills-0",)}


def test_workers_that_end_together_are_no_heirs_to_each_other() -> None:
    pair = Pair(ending="home")
    members = pair.group
    for lane in pair.lanes:
        lane.close()
    assert pair.group == members


def test_a_broker_that_does_not_say_who_is_there_holds_up_no_end() -> None:
    pair = Pair()
    ending, heir = pair.lanes

    def members(patience_s: float = 60.0) -> set[str]:
        assert patience_s < 5, "the end of a worker has eight seconds"
        raise BrokerUnreachable("it is away")

    ending._consumer.members = members  # type: ignore[method-assign]
    ending.close()
    assert SESSION_S / 2 < pair.taken_over_s(heir) < 2 * SESSION_S

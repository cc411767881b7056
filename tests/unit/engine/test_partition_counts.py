"""A task knows how many partitions its topic had at its first commit, and does not start with another number."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.adapters.kafka.cluster import note, read_position
from pipeline.adapters.memory.log import PartitionLog
from pipeline.engine.loop.lane import Lane
from pipeline.engine.loop.standings import LOOK_S
from pipeline.engine.ports import TP, LogFacts, Pause, Position
from pipeline.engine.state.partition_counts import partition_counts
from pipeline.errors import NeedsOperator, PartitionsChanged
from pipeline.testing import TestDriver
from tests.simulation.worlds import tills as t
from tests.unit.engine.test_slow_lane import COMMANDS, Shop


def add_partitions(shop: Shop, partitions: int) -> None:
    for name, topic in shop.kafka.topics.items():
        topic.logs += [PartitionLog(TP(name, n)) for n in range(len(topic.logs), partitions)]


def started(shop: Shop, name: str = "tills-0") -> Lane:
    lane = shop.lane(name)
    shop.turn(lane, lambda: len(lane._tasks.running()) == 2 * shop.kafka.facts(COMMANDS.topic).partitions)
    return lane


def test_a_lane_refuses_a_topic_to_which_partitions_were_added() -> None:
    shop = Shop(2)
    lane = started(shop)
    shop.send(3)
    shop.turn(lane, lambda: shop.committed() == 3)
    lane.close()
    add_partitions(shop, 4)
    with pytest.raises(PartitionsChanged, match=r"tills\.(command|event) had 2 partitions .* and has 4 now"):
        started(shop)


def test_so_does_one_that_only_has_partitions_that_are_new() -> None:
    shop = Shop(2)
    lane = started(shop)
    shop.send(1)
    shop.turn(lane, lambda: shop.committed() == 1)
    add_partitions(shop, 4)
    offsets = shop.kafka.group("tills").offsets
    facts = {COMMANDS.topic: LogFacts(1, 4, 0)}
    new = [TP(COMMANDS.topic, 2), TP(COMMANDS.topic, 3)]
    with pytest.raises(PartitionsChanged):
        partition_counts(new, dict.fromkeys(new), facts, lambda asked: {tp: offsets.get(tp) for tp in asked})


def test_what_is_not_to_be_had_yet_is_asked_for_again() -> None:
    facts = {COMMANDS.topic: LogFacts(1, 2, 0)}
    assert partition_counts([COMMANDS], {COMMANDS: None}, facts, lambda _: None) is None
    told: list[Sequence[TP]] = []
    known = {COMMANDS: Position(1, {}, (), 0, 2)}
    assert partition_counts([COMMANDS], known, facts, lambda asked: told.append(asked) or None) == {COMMANDS.topic: 2}
    assert not told, "a partition that has committed knows it by itself"


def test_offsets_without_a_count_are_accepted_and_the_next_commit_notes_it() -> None:
    shop = Shop(2)
    lane = started(shop)
    lane.close()
    offsets = shop.kafka.group("tills").offsets
    for tp, position in offsets.items():
        offsets[tp] = position._replace(partitions=0)
    lane = started(shop)
    shop.send(3)
    shop.turn(lane, lambda: shop.committed() == 3)
    assert offsets[COMMANDS].partitions == 2


def test_a_topic_of_which_nothing_was_folded_may_get_more() -> None:
    """`topics check --fix` gives empty topics what they lack."""
    shop = Shop(2)
    started(shop).close()
    add_partitions(shop, 4)
    shop.kafka.clock.advance(60)  # the member is forgotten, so that the next one is given all partitions
    lane = started(shop)
    shop.send(3)
    shop.turn(lane, lambda: shop.committed() == 3)
    assert shop.kafka.group("tills").offsets[COMMANDS].partitions == 4


def test_partitions_added_while_it_runs_move_no_key_and_stop_it() -> None:
    shop = Shop(2)
    lane = started(shop)
    add_partitions(shop, 3)
    shop.send(1)
    lane.turn()
    assert (lane.stats.misplaced, [task.parking.partitions for task in lane._tasks.running()]) == (0, [2] * 4)
    with pytest.raises(PartitionsChanged, match=r"had 2 partitions .* has 3 now"):
        shop.turn(lane, lambda: shop.kafka.clock.now_s > 2 * LOOK_S + 60)


def test_a_note_has_the_count_and_old_ones_are_read_without() -> None:
    position = Position(5, {"a.state": (77, 31)}, ("orders-b-0",), 7, 12)
    assert read_position(5, note("orders-a-0", position)) == position
    assert read_position(5, "by:orders-a-0 a.state=77@1f") == Position(5, {"a.state": (77, 31)})
    for text in (None, "", "set by hand", "in:x", "by:in:4", "of:4"):
        assert read_position(5, text).partitions == 0


def test_a_note_has_the_pause_whatever_its_texts_are() -> None:
    for by, why in (("anna", "the supplier is away"), ("ä: b", "a=1@2 by:x of:3 ~0:1:2+ % / \n"), ("", "")):
        position = Position(5, {"a.state": (77, 31)}, ("orders-b-0",), 7, 12, pause=Pause(by, why, 1_700_000_000_000))
        assert read_position(5, note("orders-a-0", position)) == position
    long = Position(5, {}, pause=Pause("b" * 300, "€" * 300, 1))
    assert len(note("orders-a-0", long)) < 1_500  # the broker takes 4,096 bytes
    assert read_position(5, note("orders-a-0", long)).pause == Pause("b" * 100, "€" * 100, 1)
    for text in (None, "", "hold:", "hold:x:a:b", "hold:1:a"):
        assert read_position(5, text).pause is None


def test_a_replica_refuses_it_too() -> None:
    with TestDriver(t.TOPOLOGY, partitions=2) as driver:
        driver.send("tills", "till-1", t.Take(1))
        books = next(w.lane for w in driver._world.workers if w.plan.service.name == "books")
        (replica,) = books._tasks._replicas
        with pytest.raises(PartitionsChanged, match="had 2 partitions"):
            replica.starts(LogFacts(replica.store.position("replica of") or 0, 4, 0))
        replica.starts(LogFacts(12345, 4, 0))  # of another topic of that name all is read anew


def test_an_operator_has_to_decide() -> None:
    assert issubclass(PartitionsChanged, NeedsOperator)

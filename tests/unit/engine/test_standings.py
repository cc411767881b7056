"""Offsets that are gone or set by hand, topics made anew: nothing goes on from where the tables do not stand."""

import pytest

from pipeline.adapters.memory import MemoryRecord
from pipeline.engine.loop.standings import LOOK_S
from pipeline.engine.ports import TP, Position
from pipeline.engine.state.noted import Noted, Standing, noted_key, noted_value, read_noted
from pipeline.errors import RecordsLost
from pipeline.model import Reaction
from pipeline.model.records.step_notes import StepNote, mark
from tests.helpers.till_shop import TillShop
from tests.simulation.worlds import tills as t

EVENTS, COMMANDS = TP("tills.event", 0), TP("tills.command", 0)


@pytest.fixture
def shop() -> TillShop:
    """A shop that has folded some, and stands still."""
    t.Code.mend(True)
    shop = TillShop()
    shop.open("tills")
    shop.open("books")
    shop.take(1, 2, 3)
    shop.take(4, partition=1)
    shop.settle()
    shop.close()
    return shop


def refused(shop: TillShop, service: str = "books") -> str:
    """Starts a worker; returns what it says when it ends. It has folded nothing."""
    before = {topic: shop.decided(topic) for topic in shop.kafka.topics}
    shop.open(service)
    with pytest.raises(RecordsLost) as error:
        shop.turn(lambda: False)
    assert {topic: shop.decided(topic) for topic in shop.kafka.topics} == before
    return str(error.value)


def test_a_note_is_read_as_it_was_written() -> None:
    standing = Standing(("react:b", "decide:a"), {"a/b.event": 2**64 - 1, "x": 0})
    steps = {mark("react:a"): StepNote(0, 7, level=True), mark("route:b"): StepNote(3, 5, level=False)}
    tp, noted = read_noted(noted_key(TP("a/b.event", 7)), noted_value(5, standing.text(), steps))
    assert (tp, noted) == (TP("a/b.event", 7), Noted(5, standing._replace(steps=("decide:a", "react:b")), steps))
    assert noted.standing.digest == standing.digest != standing._replace(topics={"x": 0}).digest


def test_offsets_that_are_forgotten_are_all_named_at_once_those_of_reactions_included(shop: TillShop) -> None:
    offsets = dict(shop.kafka.group("books").offsets)
    shop.kafka.group("books").offsets.clear()
    said = refused(shop)
    assert len(offsets) == 6
    for tp, position in offsets.items():
        assert f"no offset for {tp.topic}-{tp.partition}, which stands at {position.offset}:" in said


def test_one_partition_whose_offset_is_forgotten_holds_all_and_is_named_alone(shop: TillShop) -> None:
    at = shop.kafka.group("books").offsets.pop(EVENTS)
    said = refused(shop)
    assert f"no offset for tills.event-0, which stands at {at.offset}:" in said
    assert "tills.event-1" not in said


def test_what_another_worker_would_have_to_fold_is_named_too(shop: TillShop) -> None:
    offsets = dict(shop.kafka.group("books").offsets)
    shop.kafka.group("books").offsets.clear()
    shop.open("books", 1)
    shop.open("books", 0)
    with pytest.raises(RecordsLost) as error:
        shop.turn(lambda: False)
    assert all(f"{tp.topic}-{tp.partition}, which stands at" in str(error.value) for tp in offsets)


@pytest.mark.parametrize(("by", "does"), [(-1, "do work again"), (-4, "do work again"), (2, "skip records")])
def test_an_offset_set_by_hand_elsewhere_is_refused(shop: TillShop, by: int, does: str) -> None:
    at = shop.kafka.group("books").offsets[EVENTS].offset
    shop.kafka.group("books").offsets[EVENTS] = Position(at + by, {})
    said = refused(shop)
    assert f"offset of tills.event-0 was set to {at + by}, which would {does}: it stands at {at}" in said


def test_an_offset_set_by_hand_to_where_the_tables_stand_is_taken(shop: TillShop) -> None:
    offsets = shop.kafka.group("books").offsets
    offsets.update({tp: Position(at.offset, {}) for tp, at in offsets.items()})
    entered = shop.decided("books.event")
    shop.open("books")
    shop.open("tills")
    shop.take(1)
    shop.settle()
    assert shop.decided("books.event") == entered + 1


@pytest.mark.parametrize("more", [0, 50])
@pytest.mark.parametrize("forgotten", [False, True])
def test_a_source_made_again_while_no_worker_runs_is_named(shop: TillShop, more: int, *, forgotten: bool) -> None:
    at = shop.kafka.group("books").offsets[EVENTS].offset
    shop.kafka.create_topic("tills.event", 2)
    for _ in range(more):  # beyond where it stood
        shop.kafka.append(EVENTS, b"till-1", b"")
    if forgotten:  # as the broker does with those of a topic that it deletes
        del shop.kafka.group("books").offsets[EVENTS]
    said = refused(shop)
    assert f"tills.event-0 stands at {at}, but tills.event has been deleted and created again" in said


@pytest.mark.parametrize("topic", ["tills.state", "tills.event", "tills.tills.command.queue", "tills.replies"])
def test_a_topic_made_again_that_a_source_is_folded_into_is_named_and_the_local_tables_stay(
    shop: TillShop, topic: str
) -> None:
    shop.kafka.create_topic(topic, 2)
    assert f"stands at 3, but {topic} has been deleted and created again" in refused(shop, "tills")
    shop.lanes.pop().close()
    store = shop.stores["tills-0"].open("tills.command-0")
    assert store.scan(b"tills\0", b"tills\0", 10)


def test_a_start_as_usual_reads_no_notes(shop: TillShop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.engine.loop.standings.read_noted", None)
    shop.open("tills")
    shop.open("books")
    shop.take(1)
    shop.settle()


def test_a_step_that_is_new_to_what_others_have_folded_is_said(
    shop: TillShop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    shop.change("books", reactions=[*t.BOOKS.reactions, Reaction("again", t.EVENTS, lambda key, event: [])])
    shop.open("books")
    shop.open("tills")
    shop.take(1)
    shop.take(1, partition=1)
    shop.settle()
    said = [each.getMessage() for each in caplog.records if "react:again begins" in each.getMessage()]
    assert len(said) == 2
    for n in range(2):
        assert f"is built beside the others: from tills.event-{n} offset 0 to " in said[n]
    noted = dict(map(_read, shop.kafka.topics["books.positions"].logs[0].records))
    assert noted[EVENTS].standing.steps == ("react:again", "react:entries", "route:sums")


def test_rows_without_any_note_or_offset_stop_the_service(shop: TillShop) -> None:
    shop.kafka.create_topic("tills.positions", 1, compacted=True)
    shop.kafka.group("tills").offsets.clear()
    assert "no offset for tills.command-" in refused(shop, "tills")


def _read(record: MemoryRecord) -> tuple[TP, Noted]:
    return read_noted(record.key(), record.value())


@pytest.mark.parametrize("topic", ["tills.event", "books.state", "books.tills.event.queue", "sums.by_key"])
@pytest.mark.parametrize("more", [0, 50])
def test_a_topic_made_again_under_a_running_worker_stops_the_service(shop: TillShop, topic: str, more: int) -> None:
    shop.open("books")
    shop.turn(lambda: shop.lanes[0].stats.restoring == 0 and shop.lanes[0].stats.assigned == 6)
    shop.kafka.clock.advance(10.0)
    shop.lanes[0].turn()
    shop.kafka.create_topic(topic, 2)
    for _ in range(more):  # beyond where it stood
        shop.kafka.append(TP(topic, 0), b"till-1", b"")
    shop.kafka.clock.advance(LOOK_S)
    with pytest.raises(RecordsLost, match=f"{topic} has been deleted and created again, and .* stands at "):
        shop.lanes[0].turn()
    shop.lanes.pop().abandon(RecordsLost())
    shop.kafka.clock.advance(60.0)
    assert f"{topic} has been deleted and created again" in refused(shop)

"""What a decision has read of copies is told in its events, and only that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline import Aggregate, Copy, Ledger, Participant, Rejected, Replica, Source
from pipeline.flow import Copies, command_to_event, empty
from pipeline.model import CommandMessage, StateMessage
from pipeline.server.reads.held_work import _without


@dataclass(frozen=True, slots=True)
class Ask:
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    rows: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Row:
    text: str = ""


def replica(name: str) -> Replica[Any, Any]:
    return Replica(name, Source(f"{name}.event", Row), Row(), lambda row, event: row)


NEAR, FAR = replica("near"), replica("far")


def decide(command: Ask, _: None, near: Copy[Row], far: Copy[Row]) -> list[Any] | Rejected:
    rows = tuple((far if key.startswith("far") else near).get(key) for key in command.keys)
    return Rejected("nothing") if command.keys and not any(rows) else [Told(rows), Told(())]


def lazily(command: Ask, _: None, near: Copy[Row], far: Copy[Row]) -> Iterator[Any]:
    for key in command.keys:
        yield Told((near.get(key),))


def aggregate(decide: Callable[..., Any] = decide, **more: Any) -> Aggregate[Any, Any, Any]:
    return Aggregate("a", Ask, Told, None, decide, lambda state, event: state, reads=[NEAR, FAR], **more)


def copies() -> Copies:
    def near(key: str) -> tuple[int, int, Any]:
        partition = int(key[-1])
        return partition, 10 * partition, Row(key) if partition else None

    return Copies([("near.event", near), ("far.event", lambda key: (7, 70, None))])


def command(*keys: str, expected: int | None = None) -> CommandMessage:
    return CommandMessage("id", "id", None, 0, Ask(keys), expected)


def test_each_event_tells_the_last_offset_of_each_partition_that_was_read() -> None:
    decision = command_to_event(aggregate(), b"k", None, command("near2", "near1", "far", "near2"), 0, copies())
    assert not isinstance(decision, Rejected)
    first, second = decision[0]
    assert first.read == second.read == "far.event/7@69,near.event/1@9,near.event/2@19"
    assert type(first.read) is str, "as the codec wants it"
    assert first.body == Told((Row("near2"), Row("near1"), None, Row("near2")))


@pytest.mark.parametrize("keys", [(), ("near0", "near0")])
def test_nothing_is_told_where_nothing_was_read_or_nothing_was_there(keys: tuple[str, ...]) -> None:
    known = copies()
    command_to_event(aggregate(), b"k", None, command("near1"), 0, known)
    assert known.position == "near.event/1@9"
    command_to_event(aggregate(), b"k", None, command(*keys), 0, known)
    assert known.position is None


def test_a_rejection_has_read_something_and_a_conflict_nothing() -> None:
    known = copies()
    assert command_to_event(aggregate(), b"k", None, command("far"), 0, known) == Rejected("nothing")
    assert known.position == "far.event/7@69"
    conflict = command_to_event(aggregate(), b"k", None, command("near1", expected=5), 0, known)
    assert isinstance(conflict, Rejected)
    assert (conflict.reason, known.position) == ("version_conflict", None)


def test_what_a_generator_reads_is_told_in_its_first_event_too() -> None:
    decision = command_to_event(aggregate(lazily), b"k", None, command("near1", "near2"), 0, copies())
    assert not isinstance(decision, Rejected)
    assert {event.read for event in decision[0]} == {"near.event/1@9,near.event/2@19"}


@dataclass(frozen=True, slots=True)
class Hold:
    transaction: str


@dataclass(frozen=True, slots=True)
class Free:
    transaction: str


@dataclass(frozen=True, slots=True)
class Keep:
    transaction: str


def test_what_is_held_is_left_out_of_rows_without_a_copy() -> None:
    part = Participant(Hold, Keep, Free, ledger=lambda ledger: ledger)

    def let_go(command: Any, ledger: Ledger, near: Copy[Row], far: Copy[Row]) -> list[Any]:
        assert near.get("x") is None
        return [command]

    held = Ledger().hold("t1", 3)
    guarded = Aggregate(
        "a",
        Hold | Free | Keep,
        Free,
        Ledger(),
        part.guards(let_go),
        lambda ledger, event: ledger.end(event.transaction, committed=False),
        reads=[NEAR, FAR],
    )
    assert _without(guarded, "x", StateMessage(1, 0, held)).body.holds == ()
    assert empty(guarded).decide(guarded.decide, Free("t1"), held) == [Free("t1")]

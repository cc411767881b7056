"""Keys that wait: the table says something of every case, and the page shows it; the inbox tells records apart."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from pipeline import Aggregate
from pipeline.errors import UndecodableRecord
from pipeline.flow import RULES, Action, Inbox, KeyEvent, KeyState, ReservationReply, place_of, reservation_id
from pipeline.flow import waiting_table as as_text
from pipeline.model import Acceptance, CommandMessage, Parked, Rejected, Replied, ReplyMessage, Unique

PLACE = place_of("users.command", 2, 7)
COMMAND = CommandMessage("c-1", "c-1", None, 0, "register")


@dataclass(frozen=True, slots=True)
class User:
    email: str | None = None


def aggregate(**more: object) -> Aggregate[User, object, object]:
    return Aggregate("users", User(), str, str, lambda *_: (), lambda state, _: state, **more)  # type: ignore[arg-type]


def reply(command_id: str, body: object) -> ReplyMessage:
    return ReplyMessage(command_id, "others", 0, 1, 0, 0, 0, body)


def inbox(of: Aggregate[User, object, object], found: object) -> object:
    """What that aggregate's inbox makes of a record that holds `found`."""

    def read(cls: type) -> object:
        if not isinstance(found, cls):
            raise UndecodableRecord(f"no {cls.__name__}")
        return found

    return Inbox(of, lambda _: read(CommandMessage), lambda _: read(ReplyMessage)).decode(b"")  # type: ignore[arg-type, return-value]


UNIQUE = aggregate(unique=(Unique("email", lambda user: user.email),))
ASKS = aggregate(asks={"others": str})


# --- the table --------------------------------------------------------------------------------------------------------


def test_there_is_a_rule_for_every_event_in_every_state() -> None:
    assert RULES.keys() == set(product(KeyState, KeyEvent))


def test_the_page_shows_the_rules_as_they_are() -> None:
    assert as_text() in (Path(__file__).parents[3] / "docs" / "parking.md").read_text()


@pytest.mark.parametrize("state", KeyState)
def test_nothing_is_folded_past_a_record_that_waits(state: KeyState) -> None:
    assert (RULES[state, KeyEvent.ARRIVES].action is Action.FOLD) == (state is KeyState.FREE)


def test_an_operator_does_not_reach_into_a_reservation_nor_its_reply_into_another_queue() -> None:
    for state in KeyState:
        is_reserving = state is KeyState.RESERVING
        for event in (KeyEvent.REDRIVE, KeyEvent.DISCARD):
            assert (RULES[state, event].action is Action.REFUSE) == (is_reserving or state is KeyState.FREE)
        for event in (KeyEvent.GRANTED, KeyEvent.TAKEN):
            assert (RULES[state, event].action is Action.IGNORE) == (not is_reserving)


# --- the inbox --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [UNIQUE, ASKS])
def test_a_command_is_a_command(of: Aggregate[User, object, object]) -> None:
    assert inbox(of, COMMAND) == COMMAND


@pytest.mark.parametrize("of", [UNIQUE, ASKS])
def test_what_is_neither_is_told_by_what_the_commands_decoder_says(of: Aggregate[User, object, object]) -> None:
    with pytest.raises(UndecodableRecord, match="no CommandMessage"):
        inbox(of, "bytes")


def test_a_reply_to_a_reservation_names_the_command_that_waits() -> None:
    command_id = reservation_id(PLACE, "email/0a1b")
    granted = inbox(UNIQUE, reply(command_id, Acceptance(1, 1, ())))
    assert granted == ReservationReply(PLACE, "email/0a1b", Acceptance(1, 1, ()))
    assert granted.rejected is None
    taken = inbox(UNIQUE, reply(command_id, Rejected("taken", {"by": "anna"})))
    assert isinstance(taken, ReservationReply)
    assert taken.rejected == Rejected("taken", {"unique": "email"})


def test_a_reservation_that_is_parked_has_no_reply_yet() -> None:
    assert inbox(UNIQUE, reply(reservation_id(PLACE, "email/0a1b"), Parked("jammed"))) is None


def test_a_reply_to_an_ask_is_a_command() -> None:
    found = inbox(ASKS, reply("users/anna/pay/2", Acceptance(1, 1, ())))
    assert isinstance(found, CommandMessage)
    assert found.body == Replied("pay", 2, True)


@pytest.mark.parametrize("command_id", ["others/anna/pay/2", "c-1", "others.command/0/7/email/0a1b", ""])
@pytest.mark.parametrize("of", [UNIQUE, ASKS])
def test_a_reply_to_what_it_has_not_sent_is_parked(of: Aggregate[User, object, object], command_id: str) -> None:
    with pytest.raises(UndecodableRecord):
        inbox(of, reply(command_id, Acceptance(1, 1, ())))

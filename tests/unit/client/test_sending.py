"""Replies handed to those who wait, without a broker: each to its own question, whatever the others do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.client.command_client import Pending
from pipeline.client.commands import Commands, Ready
from pipeline.client.owner_request import Steps
from pipeline.client.sending import WAITING_MAX, AwaitedReply, Sending
from pipeline.client.wire.access import Access
from pipeline.client.wire.outcome import position_token
from pipeline.engine.ports import TP
from pipeline.errors import InvalidCommand, NoReply, Overloaded
from pipeline.model import Rejected, ReplyMessage
from pipeline.topology import load

COMMANDS = Commands(load("topologies"))


class Reply:
    """A record on the reply topic."""

    def __init__(self, question: AwaitedReply, body: Any) -> None:
        self._key = question.reply_to.split("/", 2)[2].encode()
        self.body = body

    def key(self) -> bytes:
        return self._key

    def value(self) -> Any:
        return ReplyMessage("same id", "users", 0, 0, 0, 0, 0, self.body)


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sending]:
    made = Sending("127.0.0.1:1", "test", lambda value: value)
    made._mine = TP("test.reply", 3)
    monkeypatch.setattr(made, "listen", lambda: None)
    yield made
    made._producer.purge()


WHY = "users is held, as 20 of 40 records raised; go on with: pipeline resume users"


def held() -> Steps[str | None]:
    yield from ()
    return WHY


def pending(sending: Sending, question: AwaitedReply) -> Pending:
    return Pending(
        Ready("same id", "users", "users.command", b"k", b"", 7), question, sending, COMMANDS, held, Access()
    )


def test_two_who_use_one_id_get_their_own_replies(sending: Sending) -> None:
    first, second = sending.question(), sending.question()
    assert first.reply_to.startswith("test.reply/3/")
    sending._hand_out(Reply(second, Rejected("second")))  # type: ignore[arg-type]
    sending._hand_out(Reply(first, Rejected("first")))  # type: ignore[arg-type]
    assert pending(sending, first).result(0) == Rejected("first")
    assert pending(sending, second).result(0) == Rejected("second")


def test_one_time_out_leaves_the_others_waiting(sending: Sending) -> None:
    async def scenario() -> Any:
        impatient, patient = sending.question(), sending.question()
        waiting = asyncio.create_task(pending(sending, patient).result_async(30))
        with pytest.raises(NoReply):
            await pending(sending, impatient).result_async(0.01)
        sending._hand_out(Reply(impatient, Rejected("late")))  # type: ignore[arg-type]
        sending._hand_out(Reply(patient, Rejected("here")))  # type: ignore[arg-type]
        return await waiting

    assert asyncio.run(scenario()) == Rejected("here")


def test_a_reply_that_nobody_waits_for_or_that_comes_twice_is_no_trouble(sending: Sending) -> None:
    question = sending.question()
    for _ in range(2):
        sending._hand_out(Reply(question, Rejected("one")))  # type: ignore[arg-type]
    sending.forget(question)
    sending._hand_out(Reply(question, Rejected("two")))  # type: ignore[arg-type]
    assert question.reply.result(0).body == Rejected("one")


def test_what_is_not_confirmed_names_the_command_and_when_it_was_issued(sending: Sending) -> None:
    question = sending.question()
    sending._fail(question, "the broker has not confirmed that it is stored: timed out")
    with pytest.raises(NoReply, match="not confirmed") as caught:
        pending(sending, question).result(5)
    assert (caught.value.command_id, caught.value.issued_ms, caught.value.stored) == ("same id", 7, None)


def test_a_stored_command_without_a_reply_names_the_hold_of_its_service(sending: Sending) -> None:
    question = sending.question()
    with pytest.raises(NoReply) as caught:
        pending(sending, question).result(0)
    assert caught.value.held is None, "it may not be stored, so the hold need not be the reason"
    question.stored = position_token("users", 1, 5)
    with pytest.raises(NoReply, match=r"once the service goes on; users is held, .*pipeline resume users") as caught:
        pending(sending, question).result(0)
    assert caught.value.held == WHY
    with pytest.raises(NoReply, match="pipeline resume users"):
        asyncio.run(pending(sending, question).result_async(0))
    other = sending.question()
    other.stored, other.parked = question.stored, "ValueError"
    with pytest.raises(NoReply) as caught:
        pending(sending, other).result(0)
    assert (caught.value.held, caught.value.parked) == (None, "ValueError")
    assert str(caught.value).endswith("once it is redriven; see its traceback with: pipeline parked show --key k")


def test_the_waiting_are_bounded_and_those_given_up_make_room(sending: Sending) -> None:
    questions = [sending.question() for _ in range(WAITING_MAX)]
    with pytest.raises(Overloaded):
        sending.question()
    sending.forget(questions[0])
    assert sending.question()


def test_a_closed_client_takes_no_commands(sending: Sending) -> None:
    sending._closing.set()
    with pytest.raises(InvalidCommand, match="closed"):
        sending.question()
    with pytest.raises(InvalidCommand, match="closed"):
        sending.queue(Ready("i", "users", "users.command", b"k", b"", 0))

"""Sagas and two-phase commit in thousands of histories with every fault; and bugs that these have to find."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.engine.ports import TP
from pipeline.engine.steps.ask import AskSender
from pipeline.engine.steps.decide import DecideStep
from pipeline.engine.steps.step import Output
from pipeline.model import CommandMessage
from pipeline.model.records.partitioning import partition_of
from pipeline.testing import TestDriver, by_hand
from tests.helpers.market import MARKET, Buy, Move, Restock
from tests.simulation.worlds.deals import play
from tests.simulation.worlds.seeds import FRESH, PER_TEST

SEEDS_MAX = 2_000


@pytest.mark.parametrize("first", [0, 100, FRESH])
def test_nothing_is_wrong(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        assert play(seed) == [], seed


def test_both_ways_in_a_quiet_world() -> None:
    with TestDriver(MARKET) as driver:
        for key, amount in (("tea", 3), ("pot", 2), ("purse", 6), ("a", 2), ("b", 1)):
            driver.send("goods", key, Restock(amount))
        for name in ("o1", "o2"):
            driver.send("sale", name, Buy(name, 2, 1))
        for n, name in enumerate(("m1", "m2")):
            driver.send("move", name, Move(name, n + 1, ("a", "b")))
        sales = [driver.row("sale", name).body.progress for name in ("o1", "o2")]
        assert [(p.status, p.reason) for p in sales] == [("done", ""), ("undone", "out_of_stock")]
        moves = [driver.row("move", name).body.transaction for name in ("m1", "m2")]
        assert [(t.state, t.reason) for t in moves] == [("committed", ""), ("aborted", "out_of_stock")]
        goods = {key: (row.body.free, row.body.gone) for key, row in driver.rows("goods").items()}
        assert goods == {"tea": (1, 2), "pot": (1, 1), "purse": (3, 3), "a": (1, 1), "b": (0, 1), "bell": (2, 0)}


def test_what_a_person_does_stands_in_the_event_log_with_who_and_why() -> None:
    with TestDriver(MARKET) as driver:
        driver.send("goods", "tea", Restock(2))
        driver.send_unseen("sale", "o1", Buy("o1", 1, 1), by_hand("abort", "eve", "the wrong tea"))
        driver.advance(60)
        assert by_hand("abort", "eve", "the wrong tea") in driver.events("sale", "o1")
        assert driver.row("sale", "o1").body.progress.status == "undone"
        assert driver.row("goods", "tea").body.free == 2


# --- planted ----------------------------------------------------------------------------------------------------------


def asks_are_sent_outside_of_the_transaction(patch: pytest.MonkeyPatch) -> None:
    def init(self: Output, producer: Any, *more: Any) -> None:
        original(self, producer, *more)
        emit, kafka = self.emit, producer._inner._kafka

        def at_once(topic: str, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
            if topic == "goods.command" and key is not None:
                kafka.append(TP(topic, partition_of(key, len(kafka.topics[topic].logs))), key, value)
            else:
                emit(topic, key, value, partition)

        self.emit = at_once  # type: ignore[method-assign]

    original = Output.__init__
    patch.setattr(Output, "__init__", init)


def the_last_ask_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    original = AskSender.records
    patch.setattr(AskSender, "records", lambda *arguments: original(*arguments)[:-1])


def answers_to_sagas_are_not_sent(patch: pytest.MonkeyPatch) -> None:
    def reply(self: Output, command: CommandMessage, data: bytes) -> None:
        if command.causation_id is None:
            original(self, command, data)

    original = Output.reply
    patch.setattr(Output, "reply", reply)


def a_participant_that_is_asked_twice_acts_twice(patch: pytest.MonkeyPatch) -> None:
    def fold(self: DecideStep, key: bytes, record: Any, message: CommandMessage) -> None:
        original(self, key, record, message)
        if message.causation_id and message.id.endswith("reserve.0/1") and self.aggregate.name == "goods":
            original(self, key, record, message._replace(id=message.id + "x"))

    original = DecideStep.fold
    patch.setattr(DecideStep, "fold", fold)


@pytest.mark.parametrize(
    "plant",
    [
        asks_are_sent_outside_of_the_transaction,
        the_last_ask_is_forgotten,
        answers_to_sagas_are_not_sent,
        a_participant_that_is_asked_twice_acts_twice,
    ],
)
def test_a_planted_bug_is_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(play(seed) for seed in range(SEEDS_MAX))

"""Unique values in the simulated world: of those who race one wins, whatever is killed, and nothing stays reserved."""

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.engine.parking.parking import Parking
from pipeline.engine.ports import TP
from pipeline.engine.steps.unique_values import UniqueValues
from pipeline.model import StateMessage
from pipeline.model.reservation import Reservation
from pipeline.testing import Simulation
from pipeline.testing.simulation import Schedule
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.testing.simulation.simulation import known_oracle
from pipeline.testing.simulation.world import World
from pipeline.topology import load
from pipeline.verify import judge
from topologies.users import ChangeEmail, ChangeName, RegisterUser, User

SHOP = load("topologies")
USERS = SHOP.only("users")
EMAILS = ("a@shop.fr", "A@shop.fr", "b@shop.fr", None)


def commands(chance: random.Random) -> Iterator[tuple[str, str, Any]]:
    for _ in range(chance.randint(5, 25)):
        key, email = f"user-{chance.randint(1, 4)}", chance.choice(EMAILS)
        command = chance.choice([RegisterUser("n", "France", email), ChangeEmail(email), ChangeName("other")])
        yield "users", key, command


@pytest.mark.parametrize("first", range(0, 150, 25))
def test_nothing_is_wrong(first: int) -> None:
    for seed in range(first, first + 25):
        simulation = Simulation(USERS, seed, commands=commands)
        if simulation.run().findings:
            simulation.check()


def findings(seeds: int) -> list[str]:
    for seed in range(seeds):
        if found := Simulation(USERS, seed, commands=commands).run().findings:
            return found
    return []


def test_the_judge_sees_a_value_that_two_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UniqueValues, "_check", lambda *_: None)
    assert findings(20)


def test_the_judge_sees_a_value_that_stays_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UniqueValues, "_release", lambda *_: None)
    assert findings(20)


def test_the_judge_sees_one_who_is_let_in_before_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parking, "_reserve", lambda self, wanted: None)
    assert findings(20)


def test_the_judge_sees_one_who_takes_a_refusal_for_a_grant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parking, "_reject", lambda self, key, entry, *_: self.release(key, entry))
    assert findings(40)


class Shared(World):
    """Gives two users the same address before verify judges, and takes another's reservation away."""

    second: list[str]

    def close(self) -> None:
        state, owner = StateMessage(9, 0, User("n", "France", "c@shop.fr")), StateMessage(9, 0, Reservation("user-8"))
        for topic, key, value in (
            ("users.state", "user-8", state),
            ("users.state", "user-9", state),
            ("user_emails.state", "0" * 64, owner),
            ("user_emails.state", "1" * 64, owner),
        ):
            self.kafka.append(TP(topic, 0), key.encode(), self.oracle.codec[topic].encode(value))
        self.second = [str(finding) for finding in judge(SimulatedHistory(self), USERS).findings]
        super().close()


def test_verify_sees_values_that_are_shared_or_reserved_in_vain() -> None:
    world = Shared(known_oracle(USERS), Schedule())
    world.run()
    assert {"shared_value", "unused_value"} <= set(re.findall(r"\w+_value", " ".join(world.second)))

"""Unique values on real Kafka: many race for few, a worker is killed in the middle, and each value has one owner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.client import Accepted, Client
from pipeline.errors import NoReply
from pipeline.model import Rejected
from pipeline.topology import Topology
from pipeline.verify import verify
from tests.helpers.support import Shop, Worker, until
from topologies.users import ChangeEmail, RegisterUser

WAIT_S = 60.0
EMAILS, RACERS = 20, 5


@pytest.fixture
def shop(kafka: str, tmp_path: Path, shop_topology: Topology) -> Iterator[Shop]:
    made = Shop(kafka, tmp_path, shop_topology.only("users"))
    yield made
    made.close()


def served(shop: Shop, slot: int) -> Worker:
    worker = shop.worker("--service", "users", "--slot", str(slot))
    until("it serves", worker.addresses)
    return worker


def test_of_those_who_race_one_wins_though_a_worker_is_killed(shop: Shop) -> None:
    workers = [served(shop, 0), served(shop, 1)]
    with Client(shop.bootstrap, shop.topology, "tests") as client:
        client.send("users", "first", RegisterUser("first", "France", "first@shop.fr"), wait=WAIT_S)
        asked = {}
        for n in range(EMAILS * RACERS):
            email = f"user{n % EMAILS}@shop.fr" if n % 2 else f"USER{n % EMAILS}@shop.fr"
            command = RegisterUser(f"user {n}", "France", email)
            asked[n] = client.ask("users", f"u{n}", command, command_id=f"register-{n}")
            if n == EMAILS * RACERS // 2:
                client.flush()
                workers[0].kill()
        workers[0] = served(shop, 0)
        outcomes = {}
        for n, pending in asked.items():
            try:
                outcomes[n] = pending.result(WAIT_S)
            except NoReply:  # it went out while its reply topic's reader was busy elsewhere: the owner remembers it
                outcomes[n] = client.outcome("users", f"u{n}", f"register-{n}")
        won = Counter(n % EMAILS for n, outcome in outcomes.items() if isinstance(outcome, Accepted))
        assert won == dict.fromkeys(range(EMAILS), 1)
        refused = [outcome for outcome in outcomes.values() if not isinstance(outcome, Accepted)]
        assert {type(outcome) for outcome in refused} == {Rejected}
        assert {(o.reason, o.details["unique"]) for o in refused if isinstance(o, Rejected)} == {
            ("taken", "user_emails")
        }

        (winner,) = (n for n, outcome in outcomes.items() if isinstance(outcome, Accepted) and n % EMAILS == 0)
        (loser, *_) = (n for n in outcomes if n % EMAILS == 0 and n != winner)
        given_up = client.send("users", f"u{winner}", ChangeEmail(None), wait=WAIT_S)
        assert isinstance(given_up, Accepted)
        until(
            "the address is free",
            lambda: isinstance(
                client.send("users", f"u{loser}", RegisterUser("l", "France", "user0@shop.fr"), wait=WAIT_S), Accepted
            ),
        )
    shop.settle()
    report = verify(shop.bootstrap, shop.topology)
    assert report.findings == []
    assert report.checked["unique values"] == EMAILS + 1
    keys = {message.key().decode() for message in shop.records("user_emails.command")}
    assert len(keys) == EMAILS + 1
    assert not any("@" in key for key in keys)


def test_workers_on_one_machine_share_a_secret_that_is_theirs_alone(shop: Shop) -> None:
    served(shop, 0)
    served(shop, 1)
    secret = shop.home / "secret"
    assert secret.stat().st_mode & 0o077 == 0
    assert [file.name for file in secret.parent.glob("secret*")] == ["secret"]

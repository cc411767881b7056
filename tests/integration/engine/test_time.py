"""Deadlines and scheduled commands on real Kafka: they outlive a worker that is killed, and come once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.client import Accepted, Client
from pipeline.errors import NoDeadlines
from pipeline.verify import verify
from tests.helpers.support import Shop, Worker, until
from tests.simulation.worlds import tills as t
from topologies.users import ChangeName, RegisterUser

WAIT_S = 60.0


class Tills:
    """The tills on fresh topics, with one worker at a time."""

    def __init__(self, kafka: str, home: Path) -> None:
        self.shop, self.home = Shop(kafka, home, t.TOPOLOGY, partitions=2), home
        self.file = home / "topology" / "tills.py"
        self.file.parent.mkdir()
        self.file.write_text("from tests.simulation.worlds.tills import TILLS as service\n")
        self.workers: list[Worker] = []

    def start(self) -> Worker:
        where = ("--schemas", str(t.SCHEMAS), "--bootstrap", self.shop.bootstrap, "--slot", "0")
        worker = Worker(self.home, str(self.file), *where)
        self.workers.append(worker)
        until("it serves", worker.addresses)
        return worker

    def to_come(self) -> list[dict[str, Any]]:
        with self.shop.query() as client:
            return client.deadlines("tills", "till-1")

    def amounts(self) -> list[int]:
        """What has been taken, in order."""
        with self.shop.query() as client:
            return [event["event"]["amount"] for event in client.history("tills", "till-1")]


@pytest.fixture
def tills(kafka: str, tmp_path: Path) -> Iterator[Tills]:
    made = Tills(kafka, tmp_path)
    yield made
    for worker in made.workers:
        worker.end()
    made.shop.close()


def test_they_outlive_a_kill_and_come_once(tills: Tills) -> None:
    worker = tills.start()
    with Client(tills.shop.bootstrap, t.TOPOLOGY, "tests") as client:
        client.send("tills", "till-2", t.Take(1), wait=WAIT_S)  # connects, and makes the reply topic
        first = client.send("tills", "till-1", t.Take(8), wait=WAIT_S)  # two more in 6 s
        assert isinstance(first, Accepted)
        waiting = client.ask("tills", "till-1", t.Take(3), command_id="s1", after=5)
        at_ms = round(time.time() * 1000) + 5_500
        answer = httpx.post(
            f"{worker.addresses()[0]}/v1/commands/tills/till-1?at={at_ms}",
            json={"type": "Take", "amount": 4},
            headers={"Idempotency-Key": "s2", "Prefer": "wait=2"},
        )
        assert (answer.status_code, answer.json()["due_ms"]) == (202, at_ms)
        until("all of them wait", lambda: len(tills.to_come()) == 3)
        told = tills.to_come()
        assert {(each["kind"], each["name"], each["command"]["amount"]) for each in told} == {
            ("scheduled", "s1", 3),
            ("scheduled", "s2", 4),
            ("deadline", "more", 2),
        }
        amounts = [8, *(each["command"]["amount"] for each in told)]  # in order of time
        where = httpx.get(f"{worker.addresses()[0]}{answer.headers['Location']}")
        assert (where.status_code, where.json()["due_ms"]) == (202, at_ms)
        assert client.outcome("tills", "till-1", "s1") is None

        worker.kill()
        assert time.time() * 1000 < told[0]["due_ms"], (
            "killed before the first was due; a busier machine needs more time"
        )
        until("all of them are due", lambda: time.time() * 1000 > told[2]["due_ms"])
        worker = tills.start()
        outcome = waiting.result(WAIT_S)
        assert isinstance(outcome, Accepted)
        assert outcome.events == (t.Taken(3),)
        until("all of them have come", lambda: len(tills.amounts()) == 4)
        assert tills.amounts() == amounts

        worker.kill()
        tills.start()
        assert client.send("tills", "till-1", t.Take(3), command_id="s1", after=5, wait=WAIT_S) == outcome
        assert client.outcome("tills", "till-1", "s1") == outcome
    assert tills.to_come() == []
    assert tills.amounts() == amounts
    report = verify(tills.shop.bootstrap, t.TOPOLOGY, ("tills",))
    assert report.clean, report.findings
    assert (report.checked["deadlines fired"], report.checked["scheduled"]) == (3, 2)
    (page,) = [httpx.get(f"{address}/metrics").text for address in tills.workers[-1].addresses()]
    assert 'pipeline_deadlines_pending{service="tills"} 0.0' in page


def by_hand(shop: Shop, *arguments: str) -> str:
    command = [sys.executable, "-m", "pipeline", *arguments, "--bootstrap", shop.bootstrap]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_on_time_and_by_hand(shop: Shop) -> None:
    worker = shop.worker("--service", "users")
    until("it serves", worker.addresses)
    with Client(shop.bootstrap, shop.topology, "tests") as client:
        assert isinstance(client.send("users", "anna", RegisterUser("Anna", "France"), wait=WAIT_S), Accepted)
        began = time.monotonic()
        assert isinstance(client.send("users", "anna", ChangeName("Anne"), after=1, wait=WAIT_S), Accepted)
        assert 0.95 < time.monotonic() - began < 10
    by_hand(shop, "send", "users", "anna", "ChangeName", '{"name": "Hanna"}', "--after", "15m", "--id", "later")
    with shop.query() as client:
        (told,) = until("it waits", lambda: client.deadlines("users", "anna"))
        with pytest.raises(NoDeadlines):
            client.deadlines("revenue", "France")
    assert 890_000 < told["due_ms"] - time.time() * 1000 < 900_000
    assert json.loads(by_hand(shop, "deadlines", "users", "anna", "--json")) == told
    assert "Hanna" in by_hand(shop, "deadlines", "users", "anna")
    assert "nothing is due" in by_hand(shop, "deadlines", "users", "berta")

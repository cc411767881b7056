"""A state that has changed, on Kafka: built ahead or at take-over, through SIGKILL, while both revisions run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.topics import create_topics, delete_services
from pipeline.client import Client
from pipeline.client.queries import QueryClient
from pipeline.engine.plan import ServicePlan
from pipeline.topology import Topology, load
from pipeline.verify import verify
from tests.helpers import accounts as a
from tests.helpers.support import Shop, Worker, until

CODE = """
import time
from dataclasses import replace
from tests.helpers import accounts as a

def slowly(ledger, event):
    time.sleep(0.002)
    return a.enter(ledger, event)

SLOW = replace(a.SECOND, evolve=slowly)
service = a.service({})
"""
KEYS = [f"account-{n}" for n in range(40)]


class Bank(Shop):
    """The accounts on fresh topics, and the code of both revisions; `slow` is the second, folding slowly."""

    def __init__(self, bootstrap: str, home: Path) -> None:
        self.home, self.schemas = home, home / "schemas"
        self.schemas.mkdir()
        a.write_schemas(self.schemas)
        for name, revision in (("first", "a.FIRST"), ("second", "a.SECOND"), ("slow", "SLOW")):
            (home / f"{name}.py").write_text(CODE.format(revision))
        second = ServicePlan(a.service(a.SECOND), codecs(self.schemas))
        delete_services(admin(bootstrap), [second])
        super().__init__(bootstrap, home, self.code("first"), partitions=2)
        create_topics(self.admin, [second], 2, 1)

    def code(self, name: str) -> Topology:
        return load(str(self.home / f"{name}.py"), self.schemas)

    def run(self, name: str) -> Worker:
        where = ("--bootstrap", self.bootstrap, "--schemas", str(self.schemas))
        worker = Worker(self.home, str(self.home / f"{name}.py"), *where)
        self._workers.append(worker)
        return worker

    def rebuild(self, name: str) -> list[str]:
        where = ("--topology", str(self.home / f"{name}.py"), "--schemas", str(self.schemas))
        more = ("--bootstrap", self.bootstrap, "--home", str(self.home), "--json")
        return [sys.executable, "-m", "pipeline", "state", "rebuild", "accounts", *where, *more]

    def pay(self, amount: int, times: int = 1) -> None:
        with Client(self.bootstrap, self.topology) as client:
            for _ in range(times):
                for key in KEYS:
                    client.send("accounts", key, a.Pay(amount))
            client.flush()

    def built(self) -> int:
        """How many states stand on the topic of the new revision."""
        return len(self.records("accounts_v2.state"))

    def rows(self, name: str) -> set[tuple[Any, ...]]:
        with QueryClient(self.bootstrap, self.code(name), 60) as client:
            return {tuple(client.get("accounts", key)["row"].values()) for key in KEYS}

    def all_is_well(self, name: str) -> None:
        report = verify(self.bootstrap, self.code(name))
        assert report.findings == []
        assert report.checked["states"] == report.checked["table rows"] == len(KEYS)


@pytest.fixture
def bank(kafka: str, tmp_path: Path) -> Iterator[Bank]:
    made = Bank(kafka, tmp_path)
    yield made
    made.close()


def test_a_worker_that_is_killed_while_it_folds_goes_on_where_it_was(bank: Bank) -> None:
    first = bank.run("first")
    bank.pay(10, times=50)
    bank.settle()
    first.kill()
    bank.pay(-500)  # to be decided on all that has come before
    slow = bank.run("slow")
    until("some states are built", lambda: bank.built() > 20)
    slow.kill()
    told = bank.run("second")
    bank.settle()
    begun = [line for line in told.log.read_text().splitlines() if "lacks accounts.event-" in line]
    assert len(begun) == 2
    assert any("from offset 0 to" not in line for line in begun), begun
    assert bank.rows("second") == {(500, 500)}
    bank.all_is_well("second")


def test_both_revisions_run_while_it_is_built_ahead_and_taken_over(bank: Bank) -> None:
    first = bank.run("first")
    bank.pay(10, times=50)
    bank.settle()

    building = subprocess.Popen(bank.rebuild("slow"), stdout=subprocess.PIPE)
    until("some states are built", lambda: bank.built() > 20)
    building.kill()
    building.wait()
    bank.pay(10)  # workers go on
    bank.settle()
    assert bank.rows("first") == {(510,)}
    told = subprocess.run(bank.rebuild("second"), capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(told.stdout)["partitions"] == 2

    bank.pay(10)
    second = bank.run("second")
    until("it is there", second.addresses)
    bank.pay(-10)
    bank.settle()
    first.kill()
    bank.pay(-500)
    bank.settle()
    print(verify(bank.bootstrap, bank.code("second")).as_json())
    for key in KEYS[:2]:
        print(
            key,
            [
                (m.partition(), m.offset(), m.value()[:40])
                for m in bank.records("accounts.event")
                if m.key() == key.encode()
            ][-5:],
        )
    for log in sorted(bank.home.glob("worker-*")):
        print(log.read_text())
    assert bank.rows("second") == {(520, 510)}
    bank.all_is_well("second")
    second.kill()
    bank.run("first")  # and back
    bank.pay(-10)
    bank.settle()
    assert bank.rows("first") == {(0,)}
    bank.all_is_well("first")

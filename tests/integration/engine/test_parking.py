"""Parked records on real Kafka: a key waits through a kill, another worker takes it over, mended code redrives it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from pipeline.adapters.avro.codec import codecs
from pipeline.client import Accepted, Client
from pipeline.engine.steps.inbox import command_codec
from pipeline.errors import NoReply
from pipeline.model import CommandMessage, Parked, Rejected
from pipeline.model.records.partitioning import partition_of
from pipeline.verify import verify
from tests.helpers.support import Shop, Worker, until
from topologies.users import ChangeName, RegisterUser, users

ROOT = Path(__file__).parents[3]
WAIT_S = 60.0
BROKEN = """
from dataclasses import replace

from pipeline import Service
from topologies import users as u


def decide(command, user):
    if isinstance(command, u.ChangeName) and command.name == "Ann":
        raise ZeroDivisionError("a name of three letters")
    return u.decide(command, user)


service = Service("users", aggregates=[replace(u.users, decide=decide)])
"""

Start = Callable[..., Worker]


@pytest.fixture
def start(shop: Shop, tmp_path: Path) -> Start:
    """Starts a worker of the service, with that source."""
    (tmp_path / "schemas").symlink_to(ROOT / "schemas")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "users.py").write_text(BROKEN)

    def started(topology: Path | str, *arguments: str) -> Worker:
        where = ["--bootstrap", shop.bootstrap, "--service", "users", *arguments]
        worker = Worker(shop.home, str(topology), *where)
        shop._workers.append(worker)
        until("it serves", worker.addresses)
        return worker

    return started


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    with Client(shop.bootstrap, shop.topology, "tests") as made:
        yield made


def parked(worker: Worker) -> list[tuple[str, int]]:
    """Keys and how many wait; nothing while it cannot be told."""
    answer = httpx.get(f"{worker.addresses()[0]}/v1/parked", params={"service": "users"}, timeout=WAIT_S)
    return [(each["key"], each["waiting"]) for each in answer.json()["parked"]] if answer.status_code == 200 else []


def pipeline(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", "parked", *arguments, "--bootstrap", shop.bootstrap]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


def lines(done: subprocess.CompletedProcess[str]) -> list[Any]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_key_waits_through_a_kill_and_is_redriven_in_order(
    shop: Shop, client: Client, start: Start, tmp_path: Path
) -> None:
    broken = start(tmp_path / "broken", "--slot", "0")
    client.send("users", "anna", RegisterUser("Anna", "France"), wait=WAIT_S)
    first = client.ask("users", "anna", ChangeName("Ann"), command_id="c1")
    behind = client.ask("users", "anna", ChangeName("Anne"), command_id="c2")
    assert isinstance(client.send("users", "berta", RegisterUser("Berta", "Spain"), wait=WAIT_S), Accepted)

    until("both are parked", lambda: parked(broken) == [("anna", 2)])
    until("both are told", lambda: first._question.parked and behind._question.parked)
    told = client.outcome("users", "anna", "c1")
    assert isinstance(told, Parked)
    assert told.cause == "ZeroDivisionError: a name of three letters"
    with pytest.raises(NoReply, match="it is parked at users") as late:
        client.send("users", "anna", ChangeName("Anni"), command_id="c3", wait=3)
    assert late.value.parked == "it waits behind a parked record of its key"
    url = f"{broken.addresses()[0]}/v1/commands/users/anna"
    answer = httpx.post(url, json={"type": "ChangeName", "name": "A"}, headers={"Prefer": "wait=2"}, timeout=WAIT_S)
    assert (answer.status_code, answer.json()["parked"]) == (202, late.value.parked)
    again = pipeline(shop, "redrive", "--key", "anna", "--why", "a try", "--json")
    assert again.returncode == 1, again.stderr
    assert [(each["done"], each["left"], each["cause"]) for each in lines(again)] == [(0, 4, told.cause)]

    broken.kill()
    after = client.ask("users", "anna", ChangeName("Annette"), command_id="c4")
    mended = start("topologies", "--slot", "1")
    until("it has taken over", lambda: parked(mended) == [("anna", 5)])
    repeated = client.ask("users", "anna", RegisterUser("Anna", "France"), command_id="c1")  # the id of another one
    until("it waits, too", lambda: parked(mended) == [("anna", 6)])
    done = pipeline(shop, "redrive", "--key", "anna", "--by", "tests", "--why", "decide is mended")
    assert (done.returncode, done.stdout) == (0, "anna: 6 redriven\n"), done.stderr

    outcomes = [each.result(WAIT_S) for each in (first, behind, after)]
    assert [each.version for each in outcomes if isinstance(each, Accepted)] == [2, 3, 6]
    refused = repeated.result(WAIT_S)
    assert isinstance(refused, Rejected)
    assert refused.reason == "id_reused"
    assert client.outcome("users", "anna", "c1") == outcomes[0]
    assert client.send("users", "anna", ChangeName("Ann"), command_id="c1", wait=WAIT_S) == outcomes[0]
    assert client.send("users", "anna", ChangeName("free"), wait=WAIT_S)
    assert parked(mended) == []

    notices = [dict(record.headers()) for record in shop.records("users.parked")]
    assert [notice["parked-action"] for notice in notices] == [b"parked", b"parked", *[b"redriven"] * 6]
    assert b"ZeroDivisionError" in notices[0]["parked-traceback"]
    assert (notices[-1]["parked-by"], notices[-1]["parked-why"]) == (b"tests", b"decide is mended")
    report = verify(shop.bootstrap, shop.topology, ("users",))
    assert report.clean, report.findings


def test_what_nobody_can_read_is_discarded_and_the_key_goes_on(shop: Shop, client: Client, start: Start) -> None:
    worker, other = start("topologies", "--slot", "0"), start("topologies", "--slot", "1")
    raw = Producer({"bootstrap.servers": shop.bootstrap, "partitioner": "murmur2_random"})
    raw.produce("users.command", b"no Avro", b"carl")
    raw.flush()
    waits = client.ask("users", "carl", RegisterUser("Carl", "Norway"))
    for each in (worker, other):  # whichever owns it
        until("both wait", lambda each=each: parked(each) == [("carl", 2)])  # type: ignore[misc]
    # The second to join may just be taking partitions over: then the worker that is asked says to ask again.
    (shown,) = until("it is shown", lambda: lines(pipeline(shop, "show", "--key", "carl", "--json")))
    assert [record["reason"] for record in shown["records"]] == ["error", "behind"]
    assert shown["records"][1]["record"]["body"] == {
        "type": "RegisterUser",
        "name": "Carl",
        "country": "Norway",
        "email": None,
    }
    table = pipeline(shop, "list")
    assert "carl" in table.stdout
    thrown = pipeline(shop, "discard", "--key", "carl", "--why", "no Avro at all")
    assert (thrown.returncode, thrown.stdout) == (0, "carl: 1 discarded, 1 left\n"), thrown.stderr
    assert pipeline(shop, "redrive", "--all", "--why", "the way is free").stdout == "carl: 1 redriven\n"
    assert isinstance(waits.result(WAIT_S), Accepted)
    again = pipeline(shop, "discard", "--key", "carl", "--why", "twice", "--service", "users")
    assert (again.returncode, again.stdout) == (0, "nothing is parked there\n")
    status = [httpx.get(f"{each.addresses()[0]}/v1/status").json()["users"] for each in (worker, other)]
    for name, wanted in (("parked", 1), ("redriven", 1), ("discarded", 1), ("held_keys", 0), ("queued", 0)):
        assert sum(each[name] for each in status) == wanted, name
    report = verify(shop.bootstrap, shop.topology, ("users",))
    assert report.clean, report.findings


def test_what_a_producer_with_another_partitioner_sends_is_parked_and_sent_home(
    shop: Shop, client: Client, start: Start
) -> None:
    worker = start("topologies")
    encode = command_codec(codecs(ROOT / "schemas"), users).encode
    raw = Producer({"bootstrap.servers": shop.bootstrap})  # librdkafka's own partitioner
    stray: list[str] = []
    partitions = len(raw.list_topics("users.command", 10).topics["users.command"].partitions)

    def stored(_: object, message: Any) -> None:
        key = message.key()
        stray.extend([key.decode()] if message.partition() != partition_of(key, partitions) else [])

    names = [f"user-{n}" for n in range(16)]
    for key in names:
        issued_ms = int(time.time() * 1000)
        message = CommandMessage(f"register {key}", key, None, issued_ms, RegisterUser(key, "France"))
        raw.produce("users.command", encode(message), key.encode(), on_delivery=stored)
    raw.flush()
    assert 0 < len(stray) < len(names)
    until("all that is misplaced is parked", lambda: sorted(parked(worker)) == sorted((key, 1) for key in stray))
    listed = lines(pipeline(shop, "list", "--json"))
    assert {each["reason"] for each in listed} == {"misplaced"}
    assert f"belongs in partition {partition_of(stray[0].encode(), partitions)} of {partitions}" in str(listed)
    assert verify(shop.bootstrap, shop.topology, ("users",)).clean, "what is parked is no finding"
    done = pipeline(shop, "redrive", "--service", "users", "--why", "the producer is mended")
    assert done.returncode == 0, done.stdout + done.stderr
    for key in names:
        renamed = client.send("users", key, ChangeName("Ann"), wait=WAIT_S)
        assert isinstance(renamed, Accepted)
        assert renamed.version == 2, "each has one life"
    assert parked(worker) == []
    assert httpx.get(f"{worker.addresses()[0]}/v1/status").json()["users"]["misplaced"] == len(stray)
    report = verify(shop.bootstrap, shop.topology, ("users",))
    assert report.clean, report.findings

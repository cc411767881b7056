"""The shop's services over real Kafka: two processes, services alone, bad records, restores."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.demo import figures
from pipeline.demo.commands import Asked, stocking, trading
from pipeline.demo.invoices import Invoices
from pipeline.demo.run import PARTITIONS
from pipeline.errors import TableUnavailable, UnknownKey
from pipeline.model import TopicKind
from pipeline.topology import Topology
from tests.helpers.support import Shop, Worker, until
from topologies import inventory as inv
from topologies import orders as o
from topologies import users as u

SERVICES = ("users", "inventory", "payments", "orders", "checkout_saga", "reports")


def shares(addresses: list[str], service: str) -> list[int]:
    """How many partitions each worker holds of a service's topics."""
    return [httpx.get(f"{address}/v1/status").json()[service]["assigned"] for address in addresses]


def test_two_processes_share_the_partitions_and_both_answer_any_key(shop: Shop, invoices: Invoices) -> None:
    worker = shop.worker("--processes", "2")
    addresses = until("both serve", lambda: len(worker.addresses()) == 2 and worker.addresses())
    for service in SERVICES:
        until(f"{service} runs on both", lambda service=service: min(shares(addresses, service)) > 0)
        assert len(set(shares(addresses, service))) == 1
    shop.send(stocking(invoices), trading(invoices))
    shop.settle()
    expected = figures.from_file(invoices)
    for address in addresses:
        for code, left in expected["stock"].items():
            assert httpx.get(f"{address}/v1/tables/inventory/{code}").json()["row"]["on_hand"] == left
        for day, amount in expected["revenue"]["France"].items():
            answer = httpx.get(f"{address}/v1/tables/revenue/France%2F{day}")
            assert answer.json()["row"]["thousandths"] == amount
        rows = httpx.get(f"{address}/v1/tables/revenue", params={"prefix": "France/", "limit": 1000}).json()["rows"]
        assert {row["key"].removeprefix("France/"): row["row"]["thousandths"] for row in rows} == expected["revenue"][
            "France"
        ]
        assert httpx.get(f"{address}/v1/tables/inventory/nothing").status_code == 404
        assert httpx.get(f"{address}/v1/tables/nothing/at-all").status_code == 404
        assert httpx.get(f"{address}/v1/tables/revenue", params={"limit": "many"}).status_code == 400
    assert until("all figures are right", lambda: shop.wrong_figures(invoices) == [])


def test_pages_of_a_scan_join_without_gap_or_overlap(shop: Shop, invoices: Invoices) -> None:
    worker = shop.worker()
    shop.send(stocking(invoices), trading(invoices))
    shop.settle()
    address = worker.addresses()[0]
    keys: list[str] = []
    after: str | None = ""
    while after is not None:
        page = httpx.get(f"{address}/v1/tables/orders", params={"limit": 7, "after": after}).json()
        keys += [row["key"] for row in page["rows"]]
        after = page["next"]
    assert keys == sorted(number for number, document in invoices.documents.items() if document.lines)


def test_each_service_can_stop_while_the_others_go_on(shop: Shop) -> None:
    workers = {service: shop.worker("--service", service) for service in SERVICES}
    shop.worker("--service", "checkout_2pc")
    table_of = {service: service for service in SERVICES} | {"reports": "revenue"}
    shop.send([Asked("inventory", "TEA", inv.RegisterProduct("TEA")), Asked("inventory", "TEA", inv.ReceiveStock(100))])
    shop.send([Asked("users", "anna", u.RegisterUser("Anna", "France"))])
    lines = (o.Line("TEA", 1, 1500),)
    shop.send([Asked("orders", "0", o.PlaceOrder("anna", "France", "2009-12-01T10:00:00", lines))])
    shop.settle()
    with shop.query() as client, shop.query(patience_s=0.0) as impatient:
        until("the replica follows", lambda: [r["key"] for r in client.scan("customer_countries")] == ["anna"])
        for n, stopped in enumerate(SERVICES, 1):
            assert workers[stopped].stop() == 0
            shop.send(
                [
                    Asked("users", f"u{n}", u.RegisterUser("Someone", "Spain")),
                    Asked("inventory", "TEA", inv.AdjustStock(1, "found")),
                    Asked("orders", str(n), o.PlaceOrder(f"u{n}", "Spain", "2009-12-01T10:00:00", lines)),
                ]
            )
            if stopped != "users":
                assert until("users go on", lambda n=n: get(client, "users", f"u{n}"))
            if stopped != "orders":
                assert until("orders go on", lambda n=n: get(client, "orders", str(n)))
            if stopped != "inventory":
                assert until("inventory goes on", lambda n=n: client.get("inventory", "TEA")["row"]["adjustments"] == n)
            if stopped == "users":  # its data can still be read where it was copied to
                assert client.get("customer_countries", "anna")["row"] == {"country": "France"}
                copied = client.get("customer_countries", "anna", consistency="eventual", max_age=20)
                assert copied["row"] == {"country": "France"}
                assert 0 < copied["age_s"] < 20, "measured against the log, which holds all that the owner has said"
                with pytest.raises(TableUnavailable, match="older than max_age allows"):
                    impatient.get("customer_countries", "anna", consistency="eventual", max_age=0.0)
            with pytest.raises(TableUnavailable):
                impatient.get(table_of[stopped], "TEA")
            workers[stopped] = shop.worker("--service", stopped)
            shop.settle()
        assert client.get("inventory", "TEA")["row"]["taken"] == 1 + len(SERVICES)
        assert client.get("revenue", "Spain/2009-12-01")["row"] == {
            "thousandths": len(SERVICES) * 1500,
            "orders": len(SERVICES),
        }
        until("the replica has caught up", lambda: len(list(client.scan("customer_countries"))) == 1 + len(SERVICES))


def get(client: Any, table: str, key: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.get(table, key)
    except UnknownKey:
        return None
    return found


def test_records_that_are_no_commands_are_parked_and_the_rest_goes_on(shop: Shop) -> None:
    worker = shop.worker()
    shop.send([Asked("inventory", "TEA", inv.RegisterProduct("TEA"))])
    producer = Producer({"bootstrap.servers": shop.bootstrap, "partitioner": "murmur2_random"})
    producer.produce("inventory.command", b"this is not Avro", b"POT", headers=[("trace", b"abc")])
    producer.produce("inventory.command", b"\0\0\0\x03\xe8unknown id", b"CUP")
    known = Registry(shop.topology.schemas).current("inventory.command")[0].to_bytes(4, "big")
    producer.produce("inventory.command", b"\0" + known + b"truncated", b"JUG")
    producer.produce("inventory.command", None, b"PAN")
    producer.produce("inventory.command", b"no key, no Avro either", None)
    assert producer.flush(30) == 0
    shop.send([Asked("inventory", "TEA", inv.ReceiveStock(5))])
    shop.settle()
    with shop.query() as client:
        assert client.get("inventory", "TEA")["row"]["on_hand"] == 5
    parked = shop.records("inventory.parked")
    by_value = {message.value(): message for message in parked}
    assert len(parked) == 5
    assert by_value[b"this is not Avro"].key() == b"POT"
    headers = dict(by_value[b"this is not Avro"].headers())
    assert headers["trace"] == b"abc"
    assert headers["parked-source-topic"] == b"inventory.command"
    assert int(headers["parked-source-offset"]) >= 0
    assert b"Confluent wire format" in headers["parked-cause"]
    assert b"unknown schema id 1000" in dict(by_value[b"\0\0\0\x03\xe8unknown id"].headers())["parked-cause"]
    metrics = httpx.get(f"{worker.addresses()[0]}/metrics").text
    assert 'pipeline_parked_total{service="inventory"} 5.0' in metrics


def test_rejections_are_counted_by_reason(shop: Shop) -> None:
    worker = shop.worker()
    shop.send([Asked("inventory", "TEA", inv.TakeStock("o", 1)), Asked("users", "x", u.ChangeName("y"))])
    shop.settle()
    metrics = httpx.get(f"{worker.addresses()[0]}/metrics").text
    assert 'pipeline_rejected_total{aggregate="inventory",reason="unknown_product",service="inventory"} 1.0' in metrics
    assert 'pipeline_rejected_total{aggregate="users",reason="unknown_user",service="users"} 1.0' in metrics


def test_tables_come_back_from_their_changelogs(shop: Shop, invoices: Invoices) -> None:
    state, older, whole, future = (shop.home / name for name in ("state", "older", "whole", "future"))
    first = shop.worker()
    half = list(trading(invoices))
    shop.send(stocking(invoices), half[: len(half) // 2])
    shop.settle()
    assert first.stop() == 0
    shutil.copytree(state, older)
    second = shop.worker()
    shop.send(half[len(half) // 2 :])
    shop.settle()
    assert shop.wrong_figures(invoices) == []
    assert second.stop() == 0
    state.rename(whole)
    shutil.copytree(older, future)
    future_positions(future, shop.topology)
    for damage, found in (("none", whole), ("deleted", None), ("older", older), ("of another history", future)):
        if found is not None:
            found.rename(state)
        third = shop.worker()
        shop.settle()
        assert shop.wrong_figures(invoices) == [], damage
        status = httpx.get(f"{until('it serves', third.addresses)[0]}/v1/status").json()
        restored = sum(service["restored"] for service in status.values())
        wiped = {reason for service in status.values() for reason in service["wiped"]}
        assert (restored > 0) == (damage != "none"), damage
        assert wiped == ({"ahead"} if damage == "of another history" else set()), damage
        assert third.stop() == 0
        shutil.rmtree(state)


def future_positions(state: Path, topology: Topology) -> None:
    """Makes the stores claim more than their changelogs hold, as a state directory from another cluster may."""
    for service in topology.services.values():
        _, stores = claim_slot(state, service.name, 0)
        for aggregate in service.owned:
            for n in range(PARTITIONS):
                store = stores.open(f"{TopicKind.COMMAND.topic(aggregate.name)}-{n}")
                store.write([], {f"changelog:{TopicKind.STATE.topic(aggregate.name)}": 10**9})
                store.close()
        stores.close()


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_query_command(shop: Shop) -> None:
    shop.worker()
    shop.send([Asked("users", name, u.RegisterUser(name.title(), "France")) for name in ("anna", "anton", "bob")])
    shop.settle()
    where = ("--bootstrap", shop.bootstrap)
    one = cli("query", "users", "anna", *where)
    assert one.returncode == 0
    assert "Anna" in one.stdout
    some = cli("query", "users", "--prefix", "an", "--json", *where)
    assert [json.loads(line)["key"] for line in some.stdout.splitlines()] == ["anna", "anton"]
    assert len(cli("query", "users", "--limit", "1", "--json", *where).stdout.splitlines()) == 1
    for arguments, says in [(("users", "nobody"), "no row under 'nobody'"), (("things", "x"), "no table 'things'")]:
        failed = cli("query", *arguments, *where)
        assert failed.returncode == 2
        assert says in failed.stderr
        assert "Traceback" not in failed.stderr


CHANGE = {"type": "ChangeName", "name": "Zoë"}


def test_a_bug_in_the_topology_holds_the_service_and_loses_nothing(shop: Shop) -> None:
    package = shop.home / "buggy" / "topologies"
    shutil.copytree(Path(u.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(shop.topology.schemas, package.parent / "schemas")
    source = package / "users.py"
    good = source.read_text()
    case = "        case ChangeName(name):"
    source.write_text(
        good.replace(case, f'        case ChangeName("boom"):\n            raise KeyError("a bug")\n{case}', 1)
    )
    names = [f"u{n}" for n in range(25)]  # more than may raise while it is taken for the data's fault
    shop.send(
        [Asked("users", name, u.RegisterUser(name, "France")) for name in names],
        [Asked("users", name, u.ChangeName("boom")) for name in names],
        [Asked("users", name, u.ChangeCountry("Spain")) for name in names],
    )
    broken = Worker(shop.home, str(source), "--schemas", str(shop.topology.schemas), "--bootstrap", shop.bootstrap)
    try:
        (address,) = until("it serves", broken.addresses)

        def status() -> dict[str, Any]:
            found: dict[str, Any] = httpx.get(f"{address}/v1/status").json()["users"]
            return found

        until("it is held", lambda: status()["held"])
        assert "KeyError: 'a bug'" in status()["held_why"]
        assert "pipeline resume users" in status()["held_why"]
        assert 'pipeline_held{service="users"} 1.0' in httpx.get(f"{address}/metrics").text
        where = "--bootstrap", shop.bootstrap
        listed = cli("parked", "list", "--json", *where)
        assert len(listed.stdout.splitlines()) == status()["held_keys"] >= 20
        cure = "go on with: pipeline resume users"
        sent = cli("send", "users", names[0], "ChangeName", '{"name": "Zoë"}', "--wait", "--timeout", "1", *where)
        assert (sent.returncode, cure in sent.stdout) == (1, True), sent
        read = cli("query", "users", names[0], "--consistency", "linearizable", "--wait", "1", *where)
        assert (read.returncode, cure in read.stderr) == (2, True), read
        posted = httpx.post(f"{address}/v1/commands/users/u0", json=CHANGE, headers={"Prefer": "wait=1"}, timeout=30)
        assert (posted.status_code, cure in posted.json()["held"]) == (202, True), posted.text
        assert cli("resume", "users", "--why", "a try", *where).returncode == 0
        until("all is folded", lambda: status()["held_keys"] == len(names))
        assert broken.process.poll() is None
    finally:
        assert broken.stop() == 0
    shop.worker()
    shop.settle()
    done = cli("parked", "redrive", "--all", "--why", "it is mended", "--bootstrap", shop.bootstrap)
    assert done.returncode == 0, done.stderr
    with shop.query() as client:
        found = {
            each["key"]: (each["row"]["name"], each["row"]["country"], each["version"]) for each in client.scan("users")
        }
    assert found == dict.fromkeys(names, ("boom", "Spain", 3)) | {names[0]: ("Zoë", "Spain", 4)}


def test_a_supervised_process_that_dies_is_started_again(shop: Shop) -> None:
    worker = shop.worker("--processes", "2", "--service", "users")
    until("both serve", lambda: len(worker.addresses()) == 2)
    victim = subprocess.run(
        ["pgrep", "-P", str(worker.process.pid), "-f", "pipeline worker"], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    subprocess.run(["kill", f"-{signal.SIGKILL.value}", victim], check=True)
    until("a third has started", lambda: len(worker.addresses()) == 3)
    assert worker.stop() == 0

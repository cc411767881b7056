"""What a worker makes of records that cannot be written, and of logs and offsets that are no longer there."""

import json
import re
from typing import Any

import httpx
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType  # type: ignore[attr-defined]

from pipeline.adapters.kafka import READING, end_offsets
from pipeline.cli import main
from pipeline.demo.commands import Asked, stocking, trading
from pipeline.demo.invoices import Invoices
from pipeline.engine.ports import TP
from pipeline.verify import verify
from tests.helpers.support import Shop, until
from topologies.inventory import RegisterProduct


def limit(shop: Shop, topic: str, max_bytes: int) -> None:
    entry = ConfigEntry("max.message.bytes", str(max_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in shop.admin.incremental_alter_configs([resource]).values():
        future.result(30)


def test_a_record_whose_outcome_the_broker_refuses_is_parked_alone(shop: Shop) -> None:
    limit(shop, "inventory.event", 400_000)
    names = {f"P{n}": "x" * (500_000 if n in (7, 30) else 10) for n in range(60)}
    shop.send([Asked("inventory", code, RegisterProduct(name)) for code, name in names.items()])
    worker = shop.worker()
    shop.settle()
    parked = shop.records("inventory.parked")
    assert {record.key() for record in parked} == {b"P7", b"P30"}
    assert all(b"RecordRefused" in dict(record.headers())["parked-cause"] for record in parked)
    with shop.query() as client:
        assert {row["key"] for row in client.scan("inventory")} == names.keys() - {"P7", "P30"}
    status = httpx.get(f"{worker.addresses()[0]}/v1/status").json()["inventory"]
    assert status["aborts"] >= 2
    report = verify(shop.bootstrap, shop.topology)
    assert report.clean, report.findings
    assert worker.stop() == 0


def test_a_notice_without_room_for_the_record_says_where_it_stands(shop: Shop) -> None:
    for topic in ("inventory.event", "inventory.parked"):
        limit(shop, topic, 400_000)
    shop.send([Asked("inventory", f"P{n}", RegisterProduct("x" * (500_000 if n == 7 else 10))) for n in range(20)])
    worker = shop.worker()
    shop.settle()
    [notice] = shop.records("inventory.parked")
    assert (notice.key(), notice.value()) == (b"P7", None)
    assert dict(notice.headers())["parked-without-value"] == b"too large"
    report = verify(shop.bootstrap, shop.topology)
    assert report.clean, report.findings
    assert worker.stop() == 0


def test_commands_that_retention_took_before_they_were_folded_are_not_skipped_in_silence(shop: Shop) -> None:
    first = shop.worker("--service", "users", "--service", "inventory")
    shop.send([Asked("inventory", f"P{n}", RegisterProduct("THING")) for n in range(40)])
    committed(shop, "inventory", 40)
    assert first.stop() == 0
    shop.send([Asked("inventory", f"Q{n}", RegisterProduct("THING")) for n in range(40)])
    ends = end_offsets(shop.admin, [TP("inventory.command", n) for n in range(4)])
    for future in shop.admin.delete_records([TopicPartition(*tp, end) for tp, end in ends.items()]).values():
        future.result(30)
    second = shop.worker("--service", "users", "--service", "inventory")
    assert second.process.wait(60) == 2
    assert "retention has deleted what was not folded yet" in second.log.read_text()


def test_offsets_that_the_broker_has_forgotten_are_not_taken_for_the_beginning(shop: Shop, invoices: Invoices) -> None:
    first = shop.worker()
    shop.send(stocking(invoices), trading(invoices))
    shop.settle()
    first.kill()
    commands = [TP("inventory.command", n) for n in range(4)]
    before = end_offsets(shop.admin, commands)
    until("the group is empty", lambda: not members(shop, "inventory"))
    for future in shop.admin.delete_consumer_groups(["inventory"]).values():
        future.result(30)
    second = shop.worker("--service", "inventory")
    assert second.process.wait(60) == 2
    said = second.log.read_text()
    at = {
        f"{topic}-{n}": stands_at(said, f"{topic}-{n}")
        for topic in ("inventory.command", "orders.event")
        for n in range(4)
    }
    assert end_offsets(shop.admin, commands) == before, "the reaction, which has no table, has begun anew"
    code, rows = reset(shop, "--dry-run")
    assert (code, {f"{row['topic']}-{row['partition']}": row["set_to"] for row in rows}) == (0, at)
    assert reset(shop, "--yes")[0] == 0
    assert reset(shop, "--yes") == (0, [])
    third = shop.worker()
    until("it serves", third.addresses)
    assert reset(shop, "--yes") == (2, []), "while workers run"
    shop.settle()
    assert shop.wrong_figures(invoices) == []
    report = verify(shop.bootstrap, shop.topology)
    assert report.clean, report.findings
    assert third.stop() == 0


def test_the_shop_under_the_newer_group_protocol(shop: Shop, invoices: Invoices) -> None:
    # Names that no other test uses: under this protocol the broker keeps those that have ended for 45 s.
    first = shop.worker("--group-protocol", "consumer", "--node", "newer-a")
    shop.send(stocking(invoices))
    until("it serves", first.addresses)
    second = shop.worker("--group-protocol", "consumer", "--node", "newer-b")
    until("it serves", second.addresses)
    until(
        "both have a share",
        lambda: all(
            httpx.get(f"{worker.addresses()[0]}/v1/status").json()["inventory"]["assigned"]
            == shop.partitions("inventory") // 2
            for worker in (first, second)
        ),
    )
    shop.send(trading(invoices))
    shop.settle()
    assert shop.wrong_figures(invoices) == []
    assert first.stop() == second.stop() == 0


def stands_at(said: str, partition: str) -> int:
    """Where a refusal says that a partition stands."""
    found = re.search(rf"no offset for {re.escape(partition)}, which stands at (\d+)", said)
    assert found, (partition, said[-2000:])
    return int(found[1])


def reset(shop: Shop, *options: str) -> tuple[int, list[Any]]:
    """The exit code of a reset of the inventory, and what it has shown."""
    arguments = ["reset", "--to-tables", "--service", "inventory", "--bootstrap", shop.bootstrap, "--json", *options]
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


def members(shop: Shop, group: str) -> list[object]:
    return shop.admin.describe_consumer_groups([group])[group].result(30).members


def committed(shop: Shop, service: str, records: int) -> None:
    """Waits until the service has committed so many records of its command topic."""
    consumer = Consumer(READING | {"bootstrap.servers": shop.bootstrap, "group.id": service})
    partitions = [TopicPartition(f"{service}.command", n) for n in range(4)]
    try:
        until("committed", lambda: sum(max(0, p.offset) for p in consumer.committed(partitions, 10)) >= records)
    finally:
        consumer.close()

"""Export, replay check and import over real Kafka: a file of production is exact, judged, and decided elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import fastavro
from click.testing import CliRunner

from pipeline.adapters.exported.reading import ExportFile
from pipeline.cli import main
from pipeline.doctor.run import OF_CLUSTER
from pipeline.verify import verify
from tests.helpers.support import Shop
from tests.integration.test_verify import some_business

OF_MACHINE = ("versions", "disk", "memory", "locks", "topology", "open files")
CHANGED = """
from dataclasses import replace
from topologies import inventory

(stock,) = [each for each in inventory.service.aggregates if each.name == "inventory"]


def evolve(state, event):
    after = stock.evolve(state, event)
    return replace(after, taken=after.taken // 2 * 2)


changed = [replace(each, evolve=evolve) if each is stock else each for each in inventory.service.aggregates]
service = replace(inventory.service, aggregates=changed)
"""


NEWER = """
from dataclasses import dataclass, replace

from pipeline import Projection
from topologies import users


@dataclass(frozen=True, slots=True)
class Count:
    events: int = 0


latest = Projection(
    "latest", sources=[users.users.events], initial=Count(), evolve=lambda row, event: Count(row.events + 1)
)
service = replace(users.service, projections=[latest])
"""


def call(shop: Shop, *arguments: str, code: int = 0, broker: bool = True, schemas: Path | None = None) -> Any:
    where = ["--bootstrap", shop.bootstrap] if broker else []
    result = CliRunner().invoke(
        main, [*arguments, *where, "--schemas", str(schemas or shop.topology.schemas), "--json"]
    )
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if code < 2 else result.output


def lines(shop: Shop, *arguments: str) -> list[dict[str, Any]]:
    """The lines of JSON that a command prints."""
    result = CliRunner().invoke(main, [*arguments, "--bootstrap", shop.bootstrap, "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def records_are_shown_as_they_stand(shop: Shop) -> None:
    """`pipeline tail` and `pipeline trace` on the same records."""
    there = {(m.partition(), m.offset()) for m in shop.records("orders.event")}
    shown = lines(shop, "tail", "orders.event", "--since", "1h")
    assert {(each["partition"], each["offset"]) for each in shown} == there
    assert len(shown) == len(there)
    assert [each["time_ms"] for each in shown] == sorted(each["time_ms"] for each in shown)
    assert {each["type"] for each in shown} >= {"OrderPlaced", "OrderConfirmed"}
    last = lines(shop, "tail", "orders", "--last", "3", "--key", "07")
    of_key = [each for each in lines(shop, "tail", "orders", "--since", "1h") if each["key"] == "07"]
    assert [each["offset"] for each in last] == [each["offset"] for each in of_key[-3:]]
    placed = lines(shop, "tail", "orders.event", "-n", "100", "--type", "OrderPlaced")
    assert len(placed) == len([each for each in shown if each["type"] == "OrderPlaced"]) == 20
    assert lines(shop, "tail", "orders.event", "--since", "1h", "--limit", "2") == shown[:2]
    assert lines(shop, "tail", "orders.event", "--since", "2999-01-01") == []

    story = call(shop, "trace", placed[0]["about"]["command_id"])
    assert (story["aggregate"], story["key"]) == ("orders", placed[0]["key"])
    assert {"orders", "checkout_saga", "inventory", "payments", "reports"} == set(story["services"])
    assert [saga["status"] for saga in story["sagas"]] == ["done"]
    assert "look further back" in call(shop, "trace", placed[0]["about"]["command_id"], "--since", "2999-01-01", code=2)


def the_cluster_is_examined(shop: Shop) -> None:
    """`pipeline groups` and `pipeline doctor` beside a running worker."""
    of = {each["service"]: each for each in lines(shop, "groups")}
    assert of.keys() == shop.topology.services.keys()
    (member,) = of["inventory"]["members"]
    assert of["inventory"]["state"] == "stable"
    assert member["host"] == "127.0.0.1"
    assert {p["owner"] for p in of["inventory"]["partitions"]} == {member["name"]}
    assert sum(p["committed"] for p in of["inventory"]["partitions"] if p["committed"]) > 8
    assert {p["lag"] for each in of.values() for p in each["partitions"]} == {0}
    assert of["inventory"]["open_transactions"] == []
    owner = call(shop, "groups", "--owner", "inventory", "TEA")
    assert (owner["service"], owner["topic"], owner["worker"]) == ("inventory", "inventory.command", member["serves"])

    found = lines(shop, "doctor", "--home", str(shop.home), "--timeout", "120")
    assert {each["level"] for each in found} <= {"ok", "warning"}, found
    assert {each["check"] for each in found} == {*OF_CLUSTER, *OF_MACHINE}


def a_service_is_paused(shop: Shop) -> None:
    """`pipeline pause`, and `pipeline resume`: commands wait meanwhile, and the sender hears why."""

    def send(name: str, *arguments: str) -> Any:
        where = ["--bootstrap", shop.bootstrap, "--json"]
        return CliRunner().invoke(
            main, ["send", "users", "u1", "ChangeName", f'{{"name": "{name}"}}', *arguments, *where]
        )

    told = call(shop, "pause", "users", "--why", "a try", "--by", "anna")
    assert (told["paused"], told["left"]) == (8, [])  # of users and of user_emails
    waiting = send("Zoe", "--wait", "--timeout", "1", "--id", "paused-1")
    assert waiting.exit_code == 1
    assert "users is paused, by anna: a try; go on with: pipeline resume users" in waiting.output
    (group,) = lines(shop, "groups", "--service", "users")
    assert {p["pause"]["why"] for p in group["partitions"] if p["topic"] == "users.command"} == {"a try"}
    found = lines(shop, "doctor", "--service", "users", "--home", str(shop.home), "--timeout", "120")
    assert any("8 partitions are paused by anna: a try" in each["says"] for each in found)
    gone_on = call(shop, "resume", "users", "--why", "it is over")
    assert ([each["resumed"] for each in gone_on["workers"]], gone_on["paused"]) == ([True], [])
    assert send("Zoe", "--wait", "--timeout", "30", "--id", "paused-1").exit_code == 0


def test_what_was_recorded_is_exported_judged_and_decided_elsewhere(shop: Shop, tmp_path: Path) -> None:
    worker = shop.worker()
    shop.send(some_business())
    shop.settle()
    path = tmp_path / "shop.avro"

    # Exactly what stands there, while the worker runs.
    exported = call(shop, "export", "topologies", "--to", str(path))
    with path.open("rb") as opened:
        assert sum(1 for _ in fastavro.reader(opened)) == exported["records"]
    file = ExportFile(path)
    for topic in ("orders.event", "inventory.command", "customers.row"):
        there = {(m.partition(), m.offset(), m.key(), m.value(), m.timestamp()[1]) for m in shop.records(topic)}
        found = {(n, *record[:4]) for n in range(file.topics[topic]) for record in file.records(topic, n)}
        assert found == there != set()

    assert exported["missing"] == []
    records_are_shown_as_they_stand(shop)
    the_cluster_is_examined(shop)
    a_service_is_paused(shop)
    ours = call(shop, "export", "topologies", "--service", "users", "--to", str(tmp_path / "users.avro"))
    assert "users.event" in ours["topics"]  # which reports folds, too
    assert "orders.event" not in ours["topics"]
    report = call(
        shop, "replay-check", "topologies", "--service", "users", "--file", str(tmp_path / "users.avro"), broker=False
    )
    assert report["clean"], report
    nothing = ["export", "topologies", "--topic", "sales.event", "--to", str(tmp_path / "no.avro")]
    assert "the broker has no topic sales.event" in call(shop, *nothing, code=2)
    assert not (tmp_path / "no.avro").exists()

    # Code that was not deployed yet may have topics that are not there.
    newer, schemas = tmp_path / "newer.py", tmp_path / "schemas"
    newer.write_text(NEWER)
    copytree(shop.topology.schemas, schemas)
    for step in (["generate", str(newer)], ["register"]):
        result = CliRunner().invoke(main, ["schemas", *step, "--schemas", str(schemas)])
        assert result.exit_code == 0, result.output
    report = call(shop, "replay-check", str(newer), schemas=schemas)
    assert report["clean"], report
    assert report["checked"]["states"] > 0
    assert "projection latest: latest.row is not recorded" in report["not_judged"]

    # The same code makes the same of it, from the file as from the broker; other code does not.
    for source in (["--file", str(path)], []):
        report = call(shop, "replay-check", "topologies", *source, broker=not source)
        assert report["clean"], report
        assert report["checked"]["commands"] > 100
        assert report["checked"]["rows"] > 10
        assert report["checked"]["states"] > 40
    (tmp_path / "changed.py").write_text(CHANGED)
    report = call(shop, "replay-check", str(tmp_path / "changed.py"), "--file", str(path), code=1, broker=False)
    assert [(each["what"], each["of"], each["field"]) for each in report["differences"]] == [
        ("state", "inventory", "taken")
    ]

    # What a service owns is not touched. Commands that were imported again had their effect before.
    assert "belongs to the service" in call(
        shop, "import", "topologies", str(path), "--to-topic", "orders.event", code=2
    )
    before = len(shop.records("inventory.event"))
    imported = call(shop, "import", "topologies", str(path), "--to-topic", "inventory.command")
    assert imported["records"] == 8
    assert imported["left_out"]
    shop.settle()
    assert len(shop.records("inventory.event")) == before
    assert verify(shop.bootstrap, shop.topology, tables=False).clean
    assert worker.stop() == 0

    # On another cluster, or the same one emptied: the same figures come out.
    again = Shop(shop.bootstrap, tmp_path, shop.topology)
    for topic in ("users.command", "inventory.command", "orders.command"):
        call(shop, "import", "topologies", str(path), "--to-topic", topic)
    worker = again.worker()
    again.settle()
    report = call(shop, "replay-check", "topologies")
    assert report["clean"], report
    assert verify(shop.bootstrap, shop.topology, tables=False).clean
    assert worker.stop() == 0

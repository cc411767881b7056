"""Records of an export file in another cluster: commands are decided anew, all else goes only where it harms none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.adapters.exported.reading import ExportFile
from pipeline.demo.commands import Asked
from pipeline.engine.ports import TP
from pipeline.errors import ExportFileError, ImportRefused
from pipeline.export.exporting import export
from pipeline.export.importing import Imported, Ready, import_file
from pipeline.topology import Topology
from pipeline.verify import judge
from tests.helpers.histories import PARTITIONS, MemoryHistory
from tests.unit.verify.test_verify import SHOP, USUAL, settled
from topologies import users as u

REPORTS = Topology("reports", {"reports": SHOP.services["reports"]}, SHOP.schemas)
NOW_MS = 1_700_000_000_000  # long after all that was sent was issued


class IntoMemory:
    """A history as the cluster that takes the records."""

    def __init__(self, history: MemoryHistory) -> None:
        self.history, self.flushed = history, False

    def ends(self, topic: str) -> list[int]:
        return [self.history.end(TP(topic, n)) for n in range(PARTITIONS)]

    def send(self, topic: str, ready: Ready) -> None:
        tp = self.history.place(topic, ready.key or b"") if ready.partition < 0 else TP(topic, ready.partition)
        headers = tuple((name, value if value is None else bytes(value)) for name, value in ready.headers)  # type: ignore[arg-type]
        self.history.append(tp, ready.key, ready.value, headers)

    def flush(self) -> None:
        self.flushed = True


def taken_in(file: ExportFile, history: MemoryHistory, topic: str, topology: Topology = SHOP) -> Imported:
    target = IntoMemory(history)
    imported = import_file(file, topology, topic, target, NOW_MS)
    assert target.flushed
    return imported


def exported(history: MemoryHistory, path: Path, *topics: str) -> ExportFile:
    export(history, SHOP, topics, path)
    return ExportFile(path)


def test_commands_of_production_are_decided_in_a_test_cluster_each_once_however_often(tmp_path: Path) -> None:
    production = settled(USUAL)
    names = ["inventory.command", "orders.command", "users.command"]
    file = exported(production, tmp_path / "commands.avro", *names)
    test = MemoryHistory(SHOP)
    test.now_ms = NOW_MS
    found = [taken_in(file, test, topic) for topic in ("users.command", "orders.command", "inventory.command") * 2]
    test.run()
    report = judge(test, SHOP)
    assert report.clean, report.findings
    assert report.checked["answered again"] == len(USUAL) - 1
    assert sum(each.records for each in found) == 2 * (len(USUAL) - 1)
    assert found[2].left_out == {
        "no commands, but replies or what cannot be read": 1,
        "sent by services, which send them again": 9,  # one more went to payments
    }
    states = {key: row for n in range(PARTITIONS) for key, row in test.tables["users", n].items()}
    assert states["anna"]["row"]["country"] == "Spain"


def test_export_import_export_is_equal(tmp_path: Path) -> None:
    production, copy = settled(USUAL), MemoryHistory(SHOP)
    first = exported(production, tmp_path / "first.avro", "orders.event")
    taken_in(first, copy, "orders.event", REPORTS)
    second = exported(copy, tmp_path / "second.avro", "orders.event")
    for n in range(PARTITIONS):
        one, two = (list(file.records("orders.event", n)) for file in (first, second))
        assert [(key, value, headers) for _, key, value, _, headers in one] == [
            (key, value, headers) for _, key, value, _, headers in two
        ]
        assert one


def test_what_a_service_owns_is_refused_and_so_is_a_topic_with_records(tmp_path: Path) -> None:
    history = settled(USUAL)
    file = exported(history, tmp_path / "some.avro", "orders.event", "orders.state", "customers.row", "users.command")
    for topic in ("orders.event", "orders.state", "customers.row"):
        with pytest.raises(ImportRefused, match=f"{topic} belongs to the service .* import the commands instead"):
            taken_in(file, MemoryHistory(SHOP), topic)
    with pytest.raises(ImportRefused, match=r"has records already.* delete the topic and create it anew"):
        taken_in(file, history, "orders.event", REPORTS)
    with pytest.raises(ExportFileError, match=r"has no records of inventory\.command; name one .* customers\.row"):
        taken_in(file, MemoryHistory(SHOP), "inventory.command")
    with pytest.raises(ImportRefused, match="holds no commands of inventory"):
        import_file(file, SHOP, "inventory.command", IntoMemory(MemoryHistory(SHOP)), NOW_MS, "users.command")


def test_records_that_a_follower_could_not_read_are_refused_before_any_is_stored(tmp_path: Path) -> None:
    file = exported(settled(USUAL), tmp_path / "some.avro", "users.event")
    file.schemas[0]["id"] = 987_654
    history = MemoryHistory(SHOP)
    with pytest.raises(ImportRefused, match=r"cannot read what .* id 987654.* take that schema over into"):
        taken_in(file, history, "users.event", REPORTS)
    assert not history.end(TP("users.event", 0))


def test_another_number_of_partitions_keeps_each_key_in_order(tmp_path: Path) -> None:
    history = settled([Asked("users", f"u{n}", u.RegisterUser("x", "France")) for n in range(20)], USUAL)
    file = exported(history, tmp_path / "users.avro", "users.event")

    class Three(IntoMemory):
        def ends(self, topic: str) -> list[int]:
            return [0, 0, 0]

    copy = MemoryHistory(SHOP)
    import_file(file, REPORTS, "users.event", Three(copy), NOW_MS)

    def by_key(logs: MemoryHistory, count: int) -> dict[bytes | None, list[bytes | None]]:
        found: dict[bytes | None, list[bytes | None]] = {}
        for n in range(count):
            for entry in logs.logs[TP("users.event", n)]:
                found.setdefault(entry.key, []).append(entry.value)
        return found

    assert by_key(copy, 3) == by_key(history, PARTITIONS)
    assert all(copy.logs[TP("users.event", n)] for n in range(3))

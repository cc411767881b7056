"""A replay check from a file, without a broker: a change of meaning is found, a harmless one is not."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.exported.reading import ExportFile
from pipeline.cli import main
from pipeline.demo.commands import Asked
from pipeline.errors import ExportFileError, SchemaError
from pipeline.export.exporting import Part, export, judged_topics
from pipeline.model import Rejected
from pipeline.topology import Topology
from pipeline.verify.change.decisions import NO_OUTCOME, UNFOLDED
from pipeline.verify.change.report import ChangeReport, Group, Scope
from pipeline.verify.change.run import check, check_files
from tests.helpers.histories import MemoryHistory, Raw
from tests.unit.verify.test_verify import SHOP, USUAL, requests, settled, thorough
from topologies import inventory as inv
from topologies import orders as o
from topologies import reports as r
from topologies import users as u

TOPICS = judged_topics(SHOP.chosen(()))


def exported(history: MemoryHistory, path: Path, *topics: str, part: Part = Part()) -> ExportFile:  # noqa: B008
    export(history, SHOP, topics or TOPICS, path, part)
    return ExportFile(path)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> ExportFile:
    return exported(settled(USUAL), tmp_path_factory.mktemp("export") / "usual.avro")


def changed(service: str, part: str, name: str, **changes: Any) -> Topology:
    """The shop with other functions in one aggregate or projection."""
    before = SHOP.services[service]
    parts = [replace(each, **changes) if each.name == name else each for each in getattr(before, part)]
    return replace(SHOP, services={**SHOP.services, service: replace(before, **{part: parts})})


def groups(report: ChangeReport) -> set[Group]:
    return set(report.found)


# --- nothing has changed ----------------------------------------------------------------------------------------------


def test_what_was_recorded_by_the_same_code_is_clean_and_counted(usual: ExportFile) -> None:
    report = check_files([usual], SHOP)
    assert report.clean, report.as_json()
    assert report.checked["commands"] == len(USUAL) - 1 + 10  # one is no command; 10 by the reactions
    assert report.checked["states"] == report.checked["keys"] == 10
    assert report.checked["events"] == 29
    assert report.checked["rows"] == 10
    assert report.not_judged == {"commands that cannot be read": 1}


@settings(thorough, max_examples=20)
@given(requests, requests, st.integers(0, 6))
def test_any_history_is_clean_also_one_that_goes_on(
    first: list[Asked | Raw], second: list[Asked | Raw], turns: int
) -> None:
    history = settled(first)
    history.send([*second, Asked("users", "eve", u.RegisterUser("Eve", "Spain"))])
    history.bounds = dict(history.offsets)
    history.run(turns)
    with TemporaryDirectory() as folder:
        report = (
            check_files([exported(history, Path(folder) / "any.avro")], SHOP) if events(history) else ChangeReport()
        )
    assert report.clean, report.as_json()


def events(history: MemoryHistory) -> bool:
    return any(log for tp, log in history.logs.items() if tp.topic.endswith(".event"))


def test_a_harmless_refactoring_is_not_reported(usual: ExportFile) -> None:
    """Sums in another way, events in another type of sequence, a state rebuilt field by field."""
    (stock,) = SHOP.services["inventory"].aggregates

    def decide(command: Any, state: Any) -> Any:
        decision = stock.decide(command, state)
        return decision if isinstance(decision, Rejected) else tuple(decision)

    def evolve(state: Any, event: Any) -> Any:
        return type(state)(**{f.name: getattr(stock.evolve(state, event), f.name) for f in dataclasses.fields(state)})

    report = check_files([usual], changed("inventory", "aggregates", "inventory", decide=decide, evolve=evolve))
    assert report.clean, report.as_json()


# --- a change of meaning ----------------------------------------------------------------------------------------------


def test_a_decision_that_differs_is_found_once_and_not_in_all_that_follows(usual: ExportFile) -> None:
    (stock,) = SHOP.services["inventory"].aggregates

    def decide(command: Any, state: Any) -> Any:
        if isinstance(command, inv.ReceiveStock):
            return [inv.StockReceived(command.quantity + 1)]
        return stock.decide(command, state)

    report = check_files([usual], changed("inventory", "aggregates", "inventory", decide=decide))
    group = Group("decision", "inventory", "StockReceived", "quantity")
    assert report.found == {group: 3}
    assert {(each.key, each.recorded, each.now) for each in report.examples[group]} == {
        (code, 10, 11) for code in ("TEA", "POT", "CUP")
    }
    assert report.as_json()["differences"][0]["count"] == 3


def test_a_rule_that_is_new_is_found_by_outcome(usual: ExportFile) -> None:
    (orders,) = [each for each in SHOP.services["orders"].aggregates if each.name == "orders"]

    def decide(command: Any, *state: Any) -> Any:
        if isinstance(command, o.PlaceOrder) and len(command.lines) == 2:
            return Rejected("too_long")
        return orders.decide(command, *state)

    report = check_files([usual], changed("orders", "aggregates", "orders", decide=decide))
    ((group, count),) = report.found.items()
    assert (group.what, group.type, group.field, count) == ("decision", "PlaceOrder", "outcome", 3)
    assert report.examples[group][0][2:] == ("OrderPlaced", "rejected: too_long")


def test_another_reason_for_a_rejection(usual: ExportFile) -> None:
    (users,) = [each for each in SHOP.services["users"].aggregates if each.name == "users"]

    def decide(command: Any, state: Any) -> Any:
        decision = users.decide(command, state)
        return Rejected("known") if isinstance(decision, Rejected) else decision

    report = check_files([usual], changed("users", "aggregates", "users", decide=decide))
    assert report.found == {Group("decision", "users", "RegisterUser", "rejected"): 1}


def test_a_fold_that_gives_another_state(usual: ExportFile) -> None:
    (stock,) = SHOP.services["inventory"].aggregates

    def evolve(state: Any, event: Any) -> Any:
        after = stock.evolve(state, event)
        return replace(after, received=after.received // 2 * 2 + 1) if isinstance(event, inv.StockReceived) else after

    report = check_files([usual], changed("inventory", "aggregates", "inventory", evolve=evolve))
    assert report.found == {Group("state", "inventory", "Stock", "received"): 3}


def test_a_fold_that_raises_and_a_decision_that_does(usual: ExportFile) -> None:
    (stock,) = SHOP.services["inventory"].aggregates

    def evolve(state: Any, event: Any) -> Any:
        return None if isinstance(event, inv.StockReceived) else stock.evolve(state, event)

    report = check_files([usual], changed("inventory", "aggregates", "inventory", evolve=evolve))
    assert report.found == {Group("event", "inventory", "StockReceived", "evolve raises"): 3}
    assert report.not_judged[UNFOLDED] >= 3

    def decide(command: Any, state: Any) -> Any:
        raise ZeroDivisionError

    report = check_files([usual], changed("inventory", "aggregates", "inventory", decide=decide))
    assert Group("decision", "inventory", "ReceiveStock", "decide raises") in groups(report)
    assert {each.what for each in groups(report)} == {"decision"}


def test_rounding_of_a_projection(usual: ExportFile) -> None:
    """What each customer has spent, with VAT rounded by line."""
    spent = next(each for each in SHOP.services["reports"].projections if each.name == "customers")
    assert spent.route is not None

    def route(key: str, event: Any) -> Any:
        return [
            (
                to,
                replace(message, thousandths=message.thousandths // 1000 * 1000)
                if isinstance(message, r.Spent)
                else message,
            )
            for to, message in spent.route(key, event)
        ]

    report = check_files([usual], changed("reports", "projections", "customers", route=route))
    assert {(each.what, each.of, each.field) for each in groups(report)} == {("row", "customers", "spent")}

    def evolve(row: Any, message: Any) -> Any:
        after = spent.evolve(row, message)
        return after and replace(after, spent=after.spent + 1)

    report = check_files([usual], changed("reports", "projections", "customers", evolve=evolve))
    assert {(each.what, each.of, each.field) for each in groups(report)} == {("row", "customers", "spent")}


def test_an_event_class_that_is_gone(usual: ExportFile, tmp_path: Path) -> None:
    report = check_files([usual], changed("inventory", "aggregates", "inventory", event=inv.ProductRegistered))
    assert report.found[Group("event", "inventory", "cannot be read", "")] >= 3
    example = report.examples[Group("event", "inventory", "cannot be read", "")][0]
    assert "none of the aggregate's events" in example.now
    assert {group.what for group in groups(report)} == {"event"}, "and not again by what follows from it"


def test_a_command_class_that_is_gone(usual: ExportFile) -> None:
    report = check_files([usual], changed("users", "aggregates", "users", command=u.RegisterUser))
    group = Group("decision", "users", "cannot be read", "")
    assert report.found == {group: 1}
    assert report.examples[group][0].now == "its class is none of the aggregate's commands"


def test_states_and_rows_that_present_code_cannot_read(tmp_path: Path) -> None:
    history = settled(USUAL)
    for topic, key in (("users.state", b"anna"), ("customers.row", b"bob")):
        history.append(history.place(topic, key), key, b"\0\0\0\0\1 of long ago")
    report = check_files([exported(history, tmp_path / "old.avro")], SHOP)
    assert report.found == {
        Group("state", "users", "cannot be read", ""): 1,
        Group("row", "customers", "cannot be read", ""): 1,
    }


# --- what is compared, and what cannot be -----------------------------------------------------------------------------


def doubled() -> Topology:
    (stock,) = SHOP.services["inventory"].aggregates

    def decide(command: Any, state: Any) -> Any:
        if isinstance(command, inv.ReceiveStock):
            command = inv.ReceiveStock(2 * command.quantity)
        return stock.decide(command, state)

    return changed("inventory", "aggregates", "inventory", decide=decide)


def test_since_compares_only_what_came_later_in_states_of_all_that_came_before(tmp_path: Path) -> None:
    history = MemoryHistory(doubled())
    history.send(USUAL)
    history.run()
    history.topology, history.now_ms = SHOP, history.now_ms + 1_000
    since_ms = history.now_ms
    history.send([Asked("inventory", "TEA", inv.AdjustStock(-14, "lost"))])  # there were 20 - 6, and 10 would not do
    history.run()
    file = exported(history, tmp_path / "two.avro")
    assert Group("decision", "inventory", "StockReceived", "quantity") in groups(check_files([file], SHOP))
    report = check_files([file], SHOP, scope=Scope(since_ms))
    assert report.clean, report.as_json()
    assert report.checked["commands"] == 1
    assert report.checked["states"] == 1


def test_a_sample_takes_whole_histories_of_the_same_keys(tmp_path: Path) -> None:
    sent: list[Asked | Raw] = [Asked("users", f"u{n}", u.RegisterUser("x", "France")) for n in range(200)]
    file = exported(settled(sent), tmp_path / "many.avro")
    half = check_files([file], SHOP, scope=Scope(sample=0.5))
    assert half.clean
    assert 70 < half.checked["keys"] < 130
    assert half.checked["keys"] == half.checked["commands"] == half.checked["states"] == half.checked["events"]
    assert check_files([file], SHOP, scope=Scope(sample=0.5)).checked == half.checked
    assert any("a sample has not all" in why for why in half.not_judged)


def test_events_alone_are_folded_and_the_rest_is_said_not_to_be_judged(tmp_path: Path) -> None:
    history = settled(USUAL)
    report = check_files([exported(history, tmp_path / "events.avro", "inventory.event")], SHOP)
    assert report.clean
    assert report.checked.keys() == {"keys", "events"}
    assert "aggregate orders: orders.event is not recorded" in report.not_judged
    assert "states of inventory: inventory.state is not recorded" in report.not_judged
    without = [topic for topic in TOPICS if not topic.endswith(".replies")]
    report = check_files([exported(history, tmp_path / "without.avro", *without)], SHOP)
    assert report.clean, report.as_json()
    whole = check_files([exported(history, tmp_path / "whole.avro")], SHOP)
    assert report.not_judged[NO_OUTCOME] == whole.checked["commands"] - report.checked["commands"] > 4  # rejections


def test_a_command_that_was_decided_late_is_decided_in_the_state_of_then(tmp_path: Path) -> None:
    """Its place in the log says nothing of that, if it has waited; its events do."""
    history = settled(USUAL)
    tp = history.place("inventory.command", b"TEA")
    log = history.logs[tp]
    first = next(entry for entry in log if entry.key == b"TEA")
    log.remove(first)
    log.append(first._replace(offset=log[-1].offset + 1))  # the registration, behind all that needs it
    file = exported(history, tmp_path / "late.avro", "inventory.command", "inventory.event")
    report = check_files([file], SHOP)
    assert report.clean, report.as_json()
    assert report.checked["commands"] > 10


def test_events_that_do_not_begin_at_the_first_are_not_judged(tmp_path: Path) -> None:
    history = settled(USUAL)
    part = Part(since_ms=history.now_ms)
    history.now_ms += 1
    history.send([Asked("inventory", "TEA", inv.ReceiveStock(1)), Asked("users", "eve", u.RegisterUser("Eve", "x"))])
    history.run()
    report = check_files([exported(history, tmp_path / "late.avro", part=part)], SHOP)
    assert report.clean, report.as_json()
    assert report.not_judged["keys whose earlier events are not recorded"] == 1
    assert report.not_judged["files: exported in part (since_ms)"] == 1
    assert "projection customers: the first events are not recorded" in report.not_judged


@pytest.mark.parametrize("part", [Part(key="anna"), Part(until_ms=1_040)])
def test_rows_are_not_made_of_a_part_of_their_events(part: Part, tmp_path: Path) -> None:
    report = check_files([exported(settled(USUAL), tmp_path / "part.avro", part=part)], SHOP)
    assert report.clean, report.as_json()
    assert report.checked["states"] > 0
    assert "projection customers: the file has only a part of what they are made of" in report.not_judged


def test_several_files_and_what_is_wrong_with_them(usual: ExportFile, tmp_path: Path) -> None:
    history = settled(USUAL)
    parts = [[topic for topic in TOPICS if topic.startswith("users")], [t for t in TOPICS if not t.startswith("users")]]
    files = [exported(history, tmp_path / f"{n}.avro", *topics) for n, topics in enumerate(parts)]
    assert check_files(files, SHOP).checked == check_files([usual], SHOP).checked
    with pytest.raises(ExportFileError, match=r"both have .*; give one"):
        check_files([*files, usual], SHOP)
    empty = exported(MemoryHistory(SHOP), tmp_path / "empty.avro")
    with pytest.raises(ExportFileError, match="no event of shop is in there; export"):
        check_files([empty], SHOP)


def test_records_of_a_schema_that_only_the_file_knows(tmp_path: Path) -> None:
    """Written by a later version of production, whose manifest this branch has not got."""
    history = settled(USUAL)
    registry = Registry(SHOP.schemas)
    _, schema = registry.current("users.event")
    later = 987_654
    for tp, log in history.logs.items():
        if tp.topic == "users.event":
            log[:] = [e._replace(value=b"\0" + later.to_bytes(4, "big") + (e.value or b"")[5:]) for e in log]
    registry.learn(later, "users.event", schema)
    path = tmp_path / "later.avro"
    export(history, SHOP, TOPICS, path, registry=registry)
    file = ExportFile(path)
    report = check_files([file], SHOP)
    assert report.clean, report.as_json()
    assert report.checked["events"] == 29
    (entry,) = [each for each in file.schemas if each["id"] == later]
    entry |= {"id": registry.current("users.event")[0], "schema": "string"}
    with pytest.raises(SchemaError, match=r"later\.avro: the schema of users\.event with id .* merge the manifest"):
        check_files([file], SHOP)


def test_a_history_that_goes_on_needs_no_file() -> None:
    history = settled(USUAL)
    report = check(history, frozenset(TOPICS), SHOP, Registry(SHOP.schemas))
    assert report.clean, report.as_json()
    assert report.checked["commands"] > 30


def test_the_page_on_export_reads_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "export.md").read_text()
    block = next(each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "fastavro" in each)
    exported(settled(USUAL), tmp_path / "shop.avro")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(block, "export.md", "exec"), names)
    assert ("inventory.parked", "JUG", b"no Avro") in names["found"]
    assert [value["body"] for topic, key, value in names["found"] if (topic, key) == ("users.event", "bob")] == [
        {"name": "bob", "country": "France", "email": None}
    ]


CHANGED = """
from dataclasses import replace
from topologies import users

(aggregate,) = [each for each in users.service.aggregates if each.name == "users"]


def evolve(state, event):
    after = aggregate.evolve(state, event)
    return replace(after, name=after.name + "ADDED")


changed = [replace(each, evolve=evolve) if each is aggregate else each for each in users.service.aggregates]
service = replace(users.service, aggregates=changed)
"""


@pytest.mark.parametrize(("evolve_adds", "code"), [(0, 0), (1, 1)])
def test_the_exit_code_says_whether_anything_differs(tmp_path: Path, evolve_adds: int, code: int) -> None:
    """By the command line, with a topology of one's own beside its file."""
    file = exported(settled(USUAL), tmp_path / "shop.avro")
    (tmp_path / "changed.py").write_text(CHANGED.replace("ADDED", "x" * evolve_adds))
    arguments = [str(tmp_path / "changed.py"), "--file", str(file.path), "--schemas", str(SHOP.schemas)]
    result = CliRunner().invoke(main, ["replay-check", *arguments])
    assert result.exit_code == code, result.output
    assert ("state of users: User.name: 2" in result.output) == bool(code)
    told = CliRunner().invoke(main, ["replay-check", *arguments, "--json"])
    assert json.loads(told.stdout)["clean"] == (not code)
    none = CliRunner().invoke(main, ["replay-check", arguments[0], "--file", arguments[0]])
    assert none.exit_code == 2
    assert "no Avro container file" in none.output

"""The checker on a log that begins with old events, which became several of today, or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.avro.registry import Registry
from pipeline.demo.commands import Asked
from pipeline.topology import Topology
from pipeline.verify import judge
from pipeline.verify.change.run import check
from tests.helpers import accounts_split as a
from tests.helpers.histories import MemoryHistory, codecs_of


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Topology, Topology]:
    return a.topologies(tmp_path)


def changed(then: Topology, now: Topology) -> MemoryHistory:
    """What has happened if the accounts were changed in the middle of it."""
    history = MemoryHistory(replace(then, name=f"{then.schemas}"))
    before = a.Transfer(10), a.Greet("hello"), a.Transfer(20)
    history.send([Asked("accounts", key, command) for key in ("anna", "bob") for command in before])
    history.run()
    history.topology = replace(now, name=f"{now.schemas}")
    history.codec = codecs_of(history.topology)
    history.send(
        [Asked("accounts", key, command) for key in ("anna", "bob") for command in (a.Transfer(5), a.Greet("?"))]
    )
    history.run()
    return history


def test_a_log_of_old_events_and_those_of_today_is_clean(versions: tuple[Topology, Topology]) -> None:
    history = changed(*versions)
    report = judge(history, versions[1])
    assert [str(finding) for finding in report.findings] == []
    assert report.checked["commands sent on"] == 12
    shown = {key: row for (table, _), rows in history.tables.items() if table == "sums" for key, row in rows.items()}
    assert shown["anna"] == {"row": {"events": 6, "amount": 38}}
    states = [rows["anna"] for (table, _), rows in history.tables.items() if table == "accounts" and "anna" in rows]
    assert [(each["version"], each["row"]) for each in states] == [(5, {"balance": -38, "charges": 3})]


def test_commands_of_a_reaction_to_parts_have_ids_of_their_own(versions: tuple[Topology, Topology]) -> None:
    history = changed(*versions)
    decode = history.codec["notes.command"].decode
    logs = [log for tp, log in history.logs.items() if tp.topic == "notes.command"]
    found = [
        (message.id, message.body.text) for log in logs for m in log if (message := decode(m.value)) and m.key == b"bob"
    ]
    assert found == [
        ("noting/bob/1/0", "Withdrawn 10 at 1"),
        ("noting/bob/1/1", "Charged 1 at 1"),
        ("noting/bob/3/0", "Withdrawn 20 at 3"),
        ("noting/bob/3/1", "Charged 1 at 3"),
        ("noting/bob/4/0", "Withdrawn 5 at 4"),
        ("noting/bob/5/0", "Charged 1 at 5"),
    ]


def test_an_upcaster_that_means_something_else_than_what_was_decided_is_found(
    versions: tuple[Topology, Topology],
) -> None:
    then, now = versions
    history = changed(then, now)
    wrong = replace(a.NOW, upcasts={**a.UPCASTS, a.Transferred: lambda old: [a.Withdrawn(old.amount)]})
    services = {**now.services, "accounts": replace(now.services["accounts"], aggregates=[wrong])}
    kinds = {finding.kind for finding in judge(history, replace(now, services=services)).findings}
    assert kinds >= {"wrong_event", "wrong_state"}


def test_an_upcaster_that_raises_is_found_and_named(versions: tuple[Topology, Topology]) -> None:
    then, now = versions
    history = changed(then, now)
    raising = replace(a.NOW, upcasts={**a.UPCASTS, a.Transferred: lambda old: old.nothing})
    services = {"accounts": replace(now.services["accounts"], aggregates=[raising]), "mirror": a.mirror(raising)}
    found = judge(history, replace(now, services=services)).findings
    assert any("the upcaster of Transferred on accounts.event raised AttributeError" in str(each) for each in found)


def test_a_replay_check_compares_what_old_events_are_today(versions: tuple[Topology, Topology]) -> None:
    then, now = versions
    history = changed(then, now)
    topics, registry = frozenset(tp.topic for tp in history.logs), Registry(now.schemas)
    report = check(history, topics, now, registry)
    assert report.clean, report.as_json()
    assert (report.checked["commands"], report.checked["states"]) == (6 + 4 + 12, 4)
    wrong = replace(a.NOW, upcasts={**a.UPCASTS, a.Transferred: lambda old: [a.Withdrawn(old.amount)]})
    services = {**now.services, "accounts": replace(now.services["accounts"], aggregates=[wrong])}
    found = check(history, topics, replace(now, services=services), registry).found
    assert {group.field for group in found if group.of == "accounts"} >= {"outcome", "charges"}

"""A replay check of a log that begins with old events: by their upcasters, they mean what present code decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.exported.reading import ExportFile
from pipeline.export.exporting import export, judged_topics
from pipeline.topology import Topology
from pipeline.verify.change.report import ChangeReport
from pipeline.verify.change.run import check_files
from tests.helpers import accounts_split as a
from tests.unit.verify.test_upcasts import changed


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[ExportFile, Topology]:
    then, now = a.topologies(tmp_path)
    path = tmp_path / "accounts.avro"
    export(changed(then, now), now, judged_topics(now.chosen(())), path)
    return ExportFile(path), now


def checked(recorded: tuple[ExportFile, Topology], upcaster: Callable[[Any], Any]) -> ChangeReport:
    file, now = recorded
    accounts = replace(a.NOW, upcasts={**a.UPCASTS, a.Transferred: upcaster})
    services = {**now.services, "accounts": replace(now.services["accounts"], aggregates=[accounts])}
    return check_files([file], replace(now, services=services), ("accounts",))


def test_old_events_that_mean_the_same_are_no_difference(recorded: tuple[ExportFile, Topology]) -> None:
    file, now = recorded
    report = check_files([file], now)
    assert report.clean, report.as_json()
    assert report.checked["commands"] >= 10
    assert report.checked["rows"] >= 2


def test_an_upcaster_that_leaves_something_out_is_found_in_decisions_and_states(
    recorded: tuple[ExportFile, Topology],
) -> None:
    report = checked(recorded, lambda old: [a.Withdrawn(old.amount)])
    found = {(each.what, each.type, each.field) for each in report.found}
    assert ("decision", "Transfer", "outcome") in found
    assert {field for what, _, field in found if what == "state"} == {"balance", "charges"}


def test_an_upcaster_that_raises_is_said_once(recorded: tuple[ExportFile, Topology]) -> None:
    report = checked(recorded, lambda old: old.nothing)
    assert {each.what for each in report.found} == {"event"}
    assert report.found.total() == 2  # of anna and bob, the first

"""How many open files a worker needs, and how services are shared out over processes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.adapters import descriptors
from pipeline.adapters.rocksdb.database import FILES_MAX, FILES_MIN
from pipeline.errors import OutOfDescriptors
from pipeline.topology import Topology
from pipeline.worker.open_files import files_for_each_database, needed, options_of, parts_of, share_out


def test_the_shop_fits_into_the_usual_limit_in_one_process_and_into_that_of_a_mac_in_some(
    shop_topology: Topology,
) -> None:
    services = shop_topology.chosen(())
    assert needed(services, len(services), 1) < 1024
    assert len(share_out(services, len(services), 1, 1024)) == 1
    parts = share_out(services, len(services), 1, 256)
    assert 1 < len(parts) < len(services)
    assert sorted(name for part in parts for name in part) == sorted(shop_topology.services)
    for part in parts:
        assert needed(shop_topology.chosen(tuple(part)), len(services), 1) <= 256


def test_more_brokers_need_more(shop_topology: Topology) -> None:
    services = shop_topology.chosen(())
    assert needed(services, len(services), 3) > needed(services, len(services), 1) + 2 * 3 * 3 * len(services)


def test_a_service_that_could_not_start_is_told_with_the_figure(shop_topology: Topology) -> None:
    services = shop_topology.chosen(("inventory",))
    alone = share_out(services, len(shop_topology.services), 1, 120)
    assert alone == [["inventory"]], "too few for all it may do, enough to start"
    with pytest.raises(OutOfDescriptors, match=r"service 'inventory' needs \d+ open files; .*ulimit -n"):
        share_out(services, len(shop_topology.services), 1, 60)


def test_later_versions_of_a_projection_run_beside_the_first(shop_topology: Topology) -> None:
    services = shop_topology.chosen(("inventory", "reports"))
    later = replace(services[1], name="reports_v2", part_of="reports")
    assert share_out([*services, later], 3, 1, 80 + needed([services[1], later], 3, 1)) == [["inventory"], ["reports"]]


def test_what_is_needed_and_allowed_is_said(
    shop_topology: Topology, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    services = shop_topology.chosen(())
    need = needed(services, len(services), 1)
    for limit, files in [(need, FILES_MIN), (1_000_000, FILES_MAX), (need - 1, FILES_MIN)]:
        monkeypatch.setattr(descriptors, "limit", lambda limit=limit: limit)
        assert files_for_each_database(services, len(services), 1) == files
    told = [(record.levelname, record.message) for record in caplog.records]
    assert told[0] == ("INFO", f"up to {need} open files are needed, {need} are allowed")
    assert told[2][0] == "WARNING"
    assert f"up to {need} open files are needed; this process may have {need - 1} open" in told[2][1]
    assert "ulimit -n" in told[2][1]


def test_several_processes_are_told_which_services_are_theirs(
    shop_topology: Topology, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(descriptors, "limit", lambda: 256)
    parts = parts_of(shop_topology, (), "localhost:9092")
    assert f"they run in {len(parts)} processes" in caplog.text
    assert "may have 256 open" in caplog.text
    assert options_of(["a", "b"], 8080) == ["--service", "a", "--service", "b", "--port", "8080"]

"""A worker says at its start if memory or partitions will not do."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pipeline.topology import Topology
from pipeline.worker import room
from pipeline.worker.room import MB, memory_needed, memory_there, warn


def test_the_least_of_what_is_free_and_what_is_allowed_counts(tmp_path: Path) -> None:
    meminfo, limit, none = tmp_path / "meminfo", tmp_path / "limit", tmp_path / "none"
    meminfo.write_text("MemTotal:  9000000 kB\nMemAvailable:  1000 kB\n")
    none.write_text("max\n")
    assert memory_there(meminfo, [str(none), str(tmp_path / "missing")]) == 1_024_000
    limit.write_text("5000\n")
    assert memory_there(meminfo, [str(limit)]) == 5000
    assert memory_there(tmp_path / "missing", []) is None


def test_too_little_memory_and_too_many_partitions_are_said(
    shop_topology: Topology, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    services = list(shop_topology.services.values())
    need = memory_needed(services, 128 * MB)
    monkeypatch.setattr(room, "memory_there", lambda: need)
    with caplog.at_level(logging.WARNING):
        warn(services, 128 * MB, {"a": 4_000, "b": 8_000}, 3)
    assert caplog.text == ""
    monkeypatch.setattr(room, "memory_there", lambda: need - MB)
    with caplog.at_level(logging.WARNING):
        warn(services, 128 * MB, {"a": 4_000, "b": 8_003}, 3)
    assert f"need {need // MB} MB of memory, and has {need // MB - 1} MB" in caplog.text
    assert "4,001 partitions a broker" in caplog.text

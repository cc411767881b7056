"""Each check stands alone and ends in time; what is wrong has a cure, and the exit code says it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.client.owner_request import Answer
from pipeline.doctor import machine
from pipeline.doctor.check import Check, Finding, Level, ok, run_checks, warning, wrong
from pipeline.doctor.cluster import of_worker
from pipeline.errors import TopicError
from pipeline.topology import Topology
from tests.helpers.support import until

NOBODY = "127.0.0.1:1"  # nothing listens there
HOLDER = """
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def levels(found: Iterator[Finding]) -> list[Level]:
    return [each.level for each in found]


def test_a_check_that_fails_or_does_not_end_says_nothing_of_the_others() -> None:
    ended = threading.Event()

    def refused() -> Iterator[Finding]:
        yield ok("a part of it")
        raise TopicError("no topic; create it")

    def broken() -> list[Finding]:
        raise ZeroDivisionError("a bug")

    def endless() -> list[Finding]:
        ended.wait()
        return []

    checks: dict[str, Check] = {"endless": endless, "refused": refused, "broken": broken, "well": lambda: [ok("fine")]}
    began = time.monotonic()
    found = {each.check: each.finding for each in run_checks(checks, 0.3)}
    assert time.monotonic() - began < 10
    ended.set()
    assert list(found) == list(checks)
    assert found["endless"].says == "no answer within 0.3 s"
    assert (found["refused"].level, found["refused"].says) == (Level.WRONG, "no topic; create it")
    assert "ZeroDivisionError" in found["broken"].says
    assert found["well"] == ok("fine")
    assert all(each.cure for each in found.values() if each.level is Level.WRONG)


def test_a_full_disk_and_a_place_without_rights_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(machine.disk(tmp_path / "not" / "there" / "yet")) == [Level.OK]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, (1 << 40) - 9, 9))  # type: ignore[attr-defined]
    (full,) = machine.disk(tmp_path)
    assert (full.level, full.says) == (Level.WRONG, f"9 B of 1.0 TiB free at {tmp_path}")
    monkeypatch.setattr(os, "access", lambda *_: False)
    (unfit,) = machine.disk(tmp_path)
    assert "cannot be written by this user" in unfit.says


def test_too_few_open_files_and_too_little_memory_are_told(
    shop_topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = shop_topology.chosen(())
    monkeypatch.setattr("pipeline.adapters.descriptors.limit", lambda: 256)
    (few,) = machine.open_files(services, len(services), 1)
    assert few.level is Level.WARNING
    assert "processes" in few.says
    assert "ulimit -n" in few.cure
    monkeypatch.setattr(machine, "_of_machine", lambda: 100 << 20)
    (little,) = machine.memory()
    assert (little.level, little.says) == (Level.WRONG, "100.0 MiB left")


def test_old_packages_and_a_missing_extension_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(machine.versions()) in ([Level.OK], [Level.OK, Level.WARNING])
    real = machine.importlib.metadata.version
    monkeypatch.setattr(
        machine.importlib.metadata, "version", lambda name: "2.3.0" if name == "confluent-kafka" else real(name)
    )
    monkeypatch.setattr(machine, "is_native", lambda: False)
    old, _, slow = machine.versions()
    assert (old.level, old.says) == (Level.WRONG, "confluent-kafka 2.3.0 is older than 2.16")
    assert slow.level is Level.WARNING


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux says who holds a lock")
def test_a_stopped_process_that_holds_a_slot_is_told(tmp_path: Path) -> None:
    assert [each.says for each in machine.locks(tmp_path)] == [f"no slot in {tmp_path} is in use"]
    lock = tmp_path / "orders" / "0" / "lock"
    lock.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            assert [each.says for each in machine.locks(tmp_path)] == [f"1 slots in {tmp_path} are in use"]
            holder.send_signal(signal.SIGSTOP)
            found = until("it stands", lambda: [e for e in machine.locks(tmp_path) if e.level is Level.WRONG])
            assert found[0].says == f"process {holder.pid}, which is stopped, holds the slot orders/0 in {tmp_path}"
            assert found[0].cure == f"kill -CONT {holder.pid}, or end it"
        finally:
            holder.kill()


def doctor(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    result = CliRunner().invoke(main, ["doctor", "--json", *arguments])
    return result.exit_code, {each["check"]: each for each in map(json.loads, result.stdout.splitlines())}


def test_without_a_broker_the_machine_is_still_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.adapters.kafka.cluster.ANSWER_S", 0.2)
    monkeypatch.setattr("pipeline.adapters.kafka.cluster.TRY_S", 0.3)
    code, found = doctor("--bootstrap", NOBODY, "--home", str(tmp_path))
    assert code == 1
    assert f"no Kafka broker answers at {NOBODY}" in found["broker"]["says"]
    assert found["topics"]["level"] == "skipped"
    assert (found["disk"]["level"], found["open files"]["level"]) == ("ok", "ok")
    code, found = doctor("--topology", "nothing_here", "--home", str(tmp_path))
    assert (code, found["topology"]["level"], found["broker"]["level"]) == (1, "wrong", "skipped")


def test_people_see_the_cure_and_a_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.doctor import run
    from pipeline.doctor.check import Checked

    found = [
        Checked("disk", wrong("full", "make room")),
        Checked("clock", warning("late", "set it")),
        Checked("x", ok("y")),
    ]
    monkeypatch.setattr(run, "examine", lambda *_: iter(found))
    result = CliRunner().invoke(main, ["doctor", "--home", str(tmp_path)])
    assert result.exit_code == 1
    assert "FAIL  disk         full\n                   -> make room\n" in result.output
    assert result.output.endswith("1 wrong, 1 warnings\n")
    monkeypatch.setattr(run, "examine", lambda *_: iter(found[1:]))
    assert CliRunner().invoke(main, ["doctor", "--home", str(tmp_path)]).exit_code == 0


def test_a_worker_that_is_not_ready_is_told_and_so_is_what_it_has_parked() -> None:
    schema = {"reason": "schema", "detail": "payments waits before orders.event-0 offset 7"}
    lag = {"reason": "lag", "detail": "892 s behind", "partition": "orders.event-0"}
    paused = {"reason": "paused", "detail": "by anna"}
    services = {
        "payments": {"ready": False, "parked_keys": 0, "why": [schema, lag, paused]},
        "users": {"ready": True, "parked_keys": 2, "why": []},
    }
    answer = Answer(503, {"ready": False, "why": [], "services": services}, {})
    found = list(of_worker("http://w:1", answer))
    assert [each.level for each in found] == [Level.WRONG, Level.WRONG, Level.WARNING]
    assert found[0].says == "http://w:1: payments: schema: payments waits before orders.event-0 offset 7"
    assert found[1].says == "http://w:1: payments: orders.event-0: lag: 892 s behind"
    assert found[2].cure == "pipeline parked list --service users"
    (well,) = of_worker("http://w:1", Answer(200, {"services": {"users": {"parked_keys": 0, "why": []}}}, {}))
    assert well.level is Level.OK
    assert [each.level for each in of_worker("http://w:1", None)] == [Level.WRONG]

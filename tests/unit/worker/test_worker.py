"""Ports and identities of a worker process."""

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.adapters.avro.codec import implementation
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.engine.stats import LaneStats
from pipeline.errors import PipelineError
from pipeline.worker.app import status
from pipeline.worker.listening import bind, choose_port
from pipeline.worker.settings import WorkerSettings


def settings(tmp_path: Path, port: int = 0) -> WorkerSettings:
    return WorkerSettings(bootstrap="", state_dir=tmp_path, port=port)


def test_a_port_in_use_is_refused_with_the_cure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PipelineError, match=f"cannot listen on 127.0.0.1:{port}: .*choose another --port"):
            choose_port(settings(tmp_path, port), [])


def test_a_slot_keeps_its_port_while_that_is_free(tmp_path: Path) -> None:
    _, stores = claim_slot(tmp_path, "users", None)
    first = choose_port(settings(tmp_path), [stores])
    first.close()
    stores.remember_port(first.port)
    again = choose_port(settings(tmp_path), [stores])
    assert again.port == first.port
    again.close()
    with socket.create_server(("127.0.0.1", first.port)):
        other = choose_port(settings(tmp_path), [stores])
        assert other.port != first.port
    other.close()


def test_two_that_start_at_once_in_slots_of_one_former_worker_both_get_a_port(tmp_path: Path) -> None:
    slots = [claim_slot(tmp_path, service, None)[1] for service in ("users", "orders")]
    free = bind("127.0.0.1", 0)
    free.close()
    for stores in slots:
        stores.remember_port(free.port)
    held = [choose_port(settings(tmp_path), [stores]) for stores in slots]  # neither listens yet
    assert held[0].port == free.port != held[1].port
    with pytest.raises(PipelineError, match="choose another --port"):
        choose_port(settings(tmp_path, free.port), [])
    for bound in held:
        bound.close()


def test_a_host_that_is_not_this_machine_is_told() -> None:
    for host in ("203.0.113.7", "no.such.host.invalid"):
        away = WorkerSettings(bootstrap="", state_dir=Path(), host=host)
        with pytest.raises(PipelineError, match=f"cannot listen on {host}:0: .*; choose another --host"):
            choose_port(away, [])


def test_the_status_says_which_codec_it_has() -> None:
    plan = SimpleNamespace(service=SimpleNamespace(name="users"))
    host: Any = SimpleNamespace(stats=LaneStats(), plan=plan, lane=SimpleNamespace(positions=dict))
    lag: Any = SimpleNamespace(as_json=dict)
    assert status([host], lag)["users"]["codec"] == implementation()

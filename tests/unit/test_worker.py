"""Ports and identities of a worker process."""

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.adapters.avro.codec import implementation
from pipeline.adapters.tables import claim_slot
from pipeline.errors import PipelineError
from pipeline.runtime.app import status
from pipeline.runtime.settings import WorkerSettings
from pipeline.runtime.stats import LaneStats
from pipeline.runtime.worker import choose_port


def settings(tmp_path: Path, port: int = 0) -> WorkerSettings:
    return WorkerSettings(bootstrap="", state_dir=tmp_path, port=port)


def test_a_port_in_use_is_refused_with_the_cure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PipelineError, match=f"cannot listen on 127.0.0.1:{port}: .*choose another --port"):
            choose_port(settings(tmp_path, port), [])


def test_a_slot_keeps_its_port_while_that_is_free(tmp_path: Path) -> None:
    _, stores = claim_slot(tmp_path, "users", None)
    port = choose_port(settings(tmp_path), [stores])
    stores.remember_port(port)
    assert choose_port(settings(tmp_path), [stores]) == port
    with socket.create_server(("127.0.0.1", port)):
        assert choose_port(settings(tmp_path), [stores]) != port


def test_the_status_says_which_codec_it_has() -> None:
    wiring = SimpleNamespace(service=SimpleNamespace(name="users"))
    host: Any = SimpleNamespace(stats=LaneStats(), wiring=wiring, lane=SimpleNamespace(positions=dict))
    assert status([host])["users"]["codec"] == implementation()

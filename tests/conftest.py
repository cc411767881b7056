"""A real Kafka for the whole run, started and stopped by the project's own local broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.adapters.kafka import admin_client
from pipeline.broker import local
from pipeline.topology import Topology, load
from tests.support import Shop

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a broker that all tests of a run share; each uses topics or names of its own, or a Shop."""
    home = tmp_path_factory.mktemp("kafka")
    running = local.up(home)
    yield running.bootstrap
    admin_client.cache_clear()  # while the broker can still answer what was asked last
    local.down(home)


@pytest.fixture(scope="session")
def shop_topology() -> Topology:
    return load("topologies")


@pytest.fixture
def shop(kafka: str, tmp_path: Path, shop_topology: Topology) -> Iterator[Shop]:
    """The shop with empty topics and no worker yet."""
    made = Shop(kafka, tmp_path, shop_topology)
    yield made
    made.close()

"""docker-compose.yml starts one node of the Kafka version that the local broker runs, in KRaft mode."""

from pathlib import Path

import yaml

from pipeline.broker.local import KAFKA_VERSION

COMPOSE = Path(__file__).parents[3] / "docker-compose.yml"


def test_it_describes_a_single_usable_node() -> None:
    kafka = yaml.safe_load(COMPOSE.read_text())["services"]["kafka"]
    environment = kafka["environment"]
    assert kafka["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert environment["KAFKA_PROCESS_ROLES"] == "broker,controller"
    listeners = dict(each.split("://") for each in environment["KAFKA_ADVERTISED_LISTENERS"].split(","))
    host, _, port = listeners["OUTSIDE"].partition(":")
    assert host == "localhost"
    assert kafka["ports"] == [f"127.0.0.1:{port}:{port}"]
    voters = environment["KAFKA_CONTROLLER_QUORUM_VOTERS"]
    assert voters == f"{environment['KAFKA_NODE_ID']}@localhost:9093"
    factors = [value for name, value in environment.items() if name.endswith(("REPLICATION_FACTOR", "MIN_ISR"))]
    assert set(factors) == {1}


def test_a_schema_registry_comes_with_its_profile_alone() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert services["registry"]["profiles"] == ["registry"]
    assert "profiles" not in services["kafka"]
    (port,) = services["registry"]["ports"]
    host, ours, _ = port.split(":")
    assert host == "127.0.0.1"
    assert f"PIPELINE_REGISTRY=http://localhost:{ours}/apis/ccompat/v7" in COMPOSE.read_text()

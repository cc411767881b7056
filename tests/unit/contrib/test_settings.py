"""Where a web application gets its topology and Kafka from: the same places as a command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pipeline import find_cluster
from pipeline.errors import BrokerUnreachable, DefaultsError

SERVICE = "from pipeline import Service\nservice = Service('mine')\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose pipeline.toml names its topology; the working directory is below."""
    for name in ("TOPOLOGY", "SCHEMAS", "BOOTSTRAP", "HOME", "CONFIG", "CLIENT_CONFIG", "REGISTRY"):
        monkeypatch.setenv(f"PIPELINE_{name}", "")  # also taken back afterwards
        monkeypatch.delenv(f"PIPELINE_{name}")
    (tmp_path / "below").mkdir()
    (tmp_path / "web_settings_own.py").write_text(SERVICE)
    (tmp_path / "pipeline.toml").write_text(
        'topology = "web_settings_own"\nbootstrap = "file:1"\nregistry = "http://localhost:8081"\n'
    )
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.setattr("sys.path", [*sys.path])
    return tmp_path


def test_what_no_argument_says_the_file_does(project: Path) -> None:
    where = find_cluster()
    assert (where.name, where.address) == ("web_settings_own", "file:1")
    assert list(where.topology.services) == ["mine"]
    assert os.environ["PIPELINE_REGISTRY"] == "http://localhost:8081"


def test_an_argument_comes_before_the_environment_and_that_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_BOOTSTRAP", "environment:1")
    monkeypatch.setenv("PIPELINE_REGISTRY", "http://other:8081")
    assert find_cluster().address == "environment:1"
    assert find_cluster("other", "argument:1").address == "argument:1"
    assert find_cluster("other").name == "other"
    assert os.environ["PIPELINE_REGISTRY"] == "http://other:8081"


def test_a_file_may_be_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "other.toml").write_text(f'home = "{project}/none"\n')
    named = find_cluster(config=project / "other.toml")
    assert named.name == "topologies"
    with pytest.raises(BrokerUnreachable, match="no local broker runs"):
        _ = named.address
    monkeypatch.setenv("PIPELINE_CONFIG", str(project / "other.toml"))
    assert find_cluster().bootstrap is None


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(DefaultsError, match="no address of a broker"):
        find_cluster(bootstrap="not an address")
    with pytest.raises(DefaultsError, match=r"nowhere\.toml: No such file"):
        find_cluster(config="nowhere.toml")

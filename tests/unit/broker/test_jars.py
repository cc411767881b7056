"""Kafka's jars, fetched the first time: whatever is stopped half-way is never taken for the whole."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jgo
import jgo.config
import pytest
from jgo.maven import PythonResolver

from pipeline.broker.jars import kafka_jars
from pipeline.process import Ended


class Maven:
    """Stands for Maven Central and jgo: one jar in the local repository, linked into a directory of jars."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repository, self.links = home / "repository", home / "cache" / "kafka-pipeline" / "links"
        self.stops: list[BaseException] = []
        self.downloads = 0
        monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        monkeypatch.setattr(jgo, "build", self.build)
        monkeypatch.setattr(PythonResolver, "download", self.download)
        settings = SimpleNamespace(load=lambda: SimpleNamespace(repo_cache=self.repository))
        monkeypatch.setattr(jgo.config, "GlobalSettings", settings)

    def build(self, coordinates: str, *, cache_dir: Path, update: bool, resolver: Any) -> Any:
        assert update  # else jgo takes a directory that was not filled to its end
        kept = self.repository / "kafka.jar"
        if not kept.exists():
            resolver.download(SimpleNamespace(cached_path=kept))
        self.links.mkdir(parents=True, exist_ok=True)
        link = self.links / "kafka.jar"
        link.write_bytes(kept.read_bytes())
        return SimpleNamespace(all_jars=[link])

    def download(self, artifact: Any) -> Path:
        self.downloads += 1
        artifact.cached_path.parent.mkdir(parents=True, exist_ok=True)
        artifact.cached_path.write_bytes(b"PK half of it")
        if self.stops:
            raise self.stops.pop()
        with zipfile.ZipFile(artifact.cached_path, "w") as jar:
            jar.writestr("Kafka.class", b"whole")
        return Path(artifact.cached_path)


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maven:
    return Maven(tmp_path, monkeypatch)


def fetched(said: list[str]) -> None:
    [jar] = kafka_jars(said.append)
    assert zipfile.is_zipfile(jar)


def test_a_download_that_a_signal_stops_is_made_again(maven: Maven) -> None:
    said: list[str] = []
    maven.stops = [Ended(2)]
    with pytest.raises(Ended):
        kafka_jars(said.append)
    assert not list(maven.repository.iterdir())
    fetched(said)
    fetched(said)  # from here on it is there
    assert (maven.downloads, len(said)) == (2, 2)


def test_one_that_was_killed_before_this_was_minded_is_found_and_made_again(maven: Maven) -> None:
    maven.repository.mkdir()
    (maven.repository / "kafka.jar").write_bytes(b"PK half of it")
    fetched([])
    assert maven.downloads == 1

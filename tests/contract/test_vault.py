"""A place for backups keeps the same promises as a folder and as a bucket of an S3-compatible server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.adapters.vault import Vault, digest_of
from pipeline.errors import BackupError, BackupUnreachable

INSTALL = "pip install s3fs 'moto[server]'"


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "backup")
        return
    try:
        from moto.server import ThreadedMotoServer
        from s3fs import S3FileSystem
    except ImportError:
        pytest.skip(f"S3 IS NOT TESTED: no server is installed here; get one with: {INSTALL}")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    S3FileSystem.clear_instance_cache()
    S3FileSystem().makedirs("bucket", exist_ok=True)  # a server of this process may have had it before
    yield "s3://bucket/backup"
    server.stop()
    S3FileSystem.clear_instance_cache()


def test_what_is_stored_is_found_read_checked_and_deleted(place: str, tmp_path: Path) -> None:
    vault, source = Vault(place), tmp_path / "source"
    assert vault.names("logs") == []
    source.write_bytes(bytes(range(256)) * 30_000)
    digest = digest_of(source)
    for name in ("logs/a/2", "logs/a/1", "tables/x"):
        vault.put(source, name)
    assert vault.names("logs") == ["logs/a/1", "logs/a/2"]
    assert Vault(place).names("logs/a") == ["logs/a/1", "logs/a/2"]
    assert digest_of(vault.get("logs/a/1", tmp_path / "back", digest)) == digest
    source.write_bytes(b"other")
    vault.put(source, "logs/a/1")
    with pytest.raises(BackupError, match="logs/a/1 is damaged"):
        vault.get("logs/a/1", tmp_path / "back", digest)
    with pytest.raises(BackupError, match="has no logs/b"):
        vault.get("logs/b", tmp_path / "back", digest)
    vault.remove("logs/a/1")
    assert vault.names("logs") == ["logs/a/2"]
    vault.write_json("points/1.json", {"a": [1]}, tmp_path)
    assert vault.read_json("points/1.json") == {"a": [1]}


def test_a_place_that_cannot_be_reached_says_so(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    bad = f"{tmp_path}/file/backup" if not place.startswith("s3") else "s3://no-such-bucket/backup"
    with pytest.raises((BackupUnreachable, BackupError), match="backup"):
        Vault(bad).put(tmp_path / "file", "logs/1")

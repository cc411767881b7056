"""Snapshots of tables: taken beside a running process, only what is new, whole again in another home."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.adapters.vault import Vault
from pipeline.backup import tables
from pipeline.backup.tables import back_up, choose, snapshots
from pipeline.errors import BackupError, RestoreRefused, StateDirectoryError


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster is asked whether it has made the tables."""
    monkeypatch.setattr(tables, "why_useless", lambda _, __: "")


def test_tables_are_copied_while_they_are_written_and_each_copy_is_a_prefix(tmp_path: Path, trusting: None) -> None:
    _, stores = claim_slot(tmp_path / "home" / "state", "users", 0)
    store = stores.open("users.command-0")
    vault, stop = Vault(str(tmp_path / "backup")), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            rows = [(f"{number % 500:04}".encode() + bytes(50), number.to_bytes(8, "big"))]
            store.write(rows, {"source:users.command": number})
            number += 1
            if number % 50 == 1:
                store.flush()
                flushed.set()

    flushed = threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    assert flushed.wait(30)
    try:
        for number in range(8):
            done = back_up(tmp_path / "home", "one", vault, ())
            (snapshot,) = done.snapshots
            at = snapshot.positions["tables"]["users.command-0"]["source:users.command"]
            home = tmp_path / f"home{number}"
            tables.restore("", vault, choose(vault, None, ()), home)
            _, again = claim_slot(home / "state", "users", 0)
            copy = again.open("users.command-0")
            assert copy.damage is None
            assert copy.position("source:users.command") == at
            values = [int.from_bytes(value, "big") for _, value in copy.scan(b"0", b"0", 1000)]
            assert sorted(values) == list(range(max(0, at - 499), at + 1))
            copy.close()
            again.close()
    finally:
        stop.set()
        writer.join()
    store.close()
    stores.close()


def test_only_new_files_are_stored_and_old_ones_go(tmp_path: Path) -> None:
    vault = Vault(str(tmp_path / "backup"))
    _, stores = claim_slot(tmp_path / "home" / "state", "users", 0)
    store = stores.open("users.command-0")
    store.write([(bytes([n]) * 20, bytes(20_000)) for n in range(200)], {})
    store.flush()
    first = back_up(tmp_path / "home", "one", vault, ())
    store.write([(b"k", b"v")], {})
    store.flush()
    second = back_up(tmp_path / "home", "one", vault, ())
    assert second.stored < first.stored
    (snapshot,) = snapshots(vault)
    assert {name.rpartition("/")[2] for name in vault.names("tables/one/files")} == snapshot.digests()
    assert back_up(tmp_path / "home", "one", vault, ()).stored == 0
    store.close()
    stores.close()


def test_what_is_there_is_not_overwritten_and_what_was_fetched_is_kept(tmp_path: Path, trusting: None) -> None:
    vault = Vault(str(tmp_path / "backup"))
    _, stores = claim_slot(tmp_path / "home" / "state", "users", 0)
    store = stores.open("users.command-0")
    store.write([(b"k", b"v")], {})
    store.flush()
    (snapshot,) = back_up(tmp_path / "home", "one", vault, ()).snapshots
    with pytest.raises(StateDirectoryError, match="in use by a running worker"):
        tables.restore("", vault, [snapshot], tmp_path / "home")
    store.close()
    stores.close()
    with pytest.raises(RestoreRefused, match="is there already; name another --home"):
        tables.restore("", vault, [snapshot], tmp_path / "home")

    # A kill in the midst: what is there and whole is not fetched again.
    part = tmp_path / "new" / "state" / "users" / "0" / "tables.restoring"
    part.mkdir(parents=True)
    name, (size, digest) = max(snapshot.files["tables"].items(), key=lambda each: each[1][0])
    vault.get(f"tables/one/files/{digest}", part / name, digest)
    (part / min(snapshot.files["tables"])).write_bytes(b"half")
    assert tables.restore("", vault, [snapshot], tmp_path / "new") == snapshot.size - size


def test_tables_are_named_by_their_machine(tmp_path: Path) -> None:
    vault = Vault(str(tmp_path / "backup"))
    with pytest.raises(BackupError, match=r"has no tables; make a backup with: pipeline backup tables --to"):
        choose(vault, None, ())
    with pytest.raises(BackupError, match="has no tables of any service"):
        back_up(tmp_path / "home", "one", vault, ())
    _, stores = claim_slot(tmp_path / "home" / "state", "users", 0)
    store = stores.open("users.command-0")
    store.write([(b"k", b"v")], {})
    store.flush()
    for machine in ("one", "two"):
        back_up(tmp_path / "home", machine, vault, ())
    store.close()
    stores.close()
    with pytest.raises(BackupError, match="has tables of one, two; say with --name of which"):
        choose(vault, None, ())
    assert [each.machine for each in choose(vault, "two", ("users",))] == ["two"]
    with pytest.raises(BackupError, match="has no such tables; there are one: users, two: users"):
        choose(vault, "three", ())


def test_what_is_not_on_disk_yet_is_no_snapshot(tmp_path: Path) -> None:
    vault = Vault(str(tmp_path / "backup"))
    opened = [claim_slot(tmp_path / "home" / "state", service, 0)[1] for service in ("orders", "users")]
    orders, users = (stores.open("some.command-0") for stores in opened)
    for store in (orders, users):
        store.write([(b"k", b"v")], {})
    with pytest.raises(BackupError, match=r"no table of orders 0, users 0 .* is on disk yet; .*: back up again later"):
        back_up(tmp_path / "home", "one", vault, ())
    users.flush()
    done = back_up(tmp_path / "home", "one", vault, ())
    assert ([each.service for each in done.snapshots], done.unwritten) == (["users"], ["orders 0"])
    for store, stores in zip((orders, users), opened, strict=True):
        store.close()
        stores.close()

"""Snapshots of local tables: the files of RocksDB with the positions in them, and a new worker's home made of them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.adapters.kafka import admin, end_offsets
from pipeline.adapters.kafka.cluster import log_facts
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.adapters.rocksdb.snapshot import take
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.adapters.vault import Vault, digest_of
from pipeline.engine.ports import TP
from pipeline.engine.state.positions import CAUGHT_UP_MS
from pipeline.errors import BackupError, RestoreRefused

VERSION = 1
DATABASES = ("tables", "history")
CHANGELOG, IDENTITY = "changelog:", "identity:"
STAGING = ".backup"
Step = Callable[[str, int, int], object]  # (file, bytes done, bytes in all)


class Snapshot(NamedTuple):
    """The tables of a service in a slot of a machine. `files`: by database and name, size and digest of each."""

    machine: str
    service: str
    slot: int
    made_ms: int
    files: dict[str, dict[str, tuple[int, str]]]
    positions: dict[str, dict[str, dict[str, int]]]  # by database and store

    @property
    def name(self) -> str:
        """The name in the backup."""
        return f"tables/{self.machine}/{self.service}/{self.slot}.json"

    @property
    def size(self) -> int:
        """The bytes of its files."""
        return sum(size for files in self.files.values() for size, _ in files.values())

    def digests(self) -> set[str]:
        """Return the digests of its files, which are their names in the backup."""
        return {digest for files in self.files.values() for _, digest in files.values()}


class BackedTables(NamedTuple):
    """What was done: the snapshots, and the bytes that were not there before.

    `unwritten`: services and slots of which no table is on disk yet, so that there is nothing to back up.
    """

    snapshots: list[Snapshot]
    stored: int
    unwritten: list[str]


def back_up(
    home: Path, machine: str, vault: Vault, services: Collection[str], step: Step = lambda *_: None
) -> BackedTables:
    """Back up the tables under a home, of these services or of all. Files that are there already stay as they are.

    Raises BackupError, StateDirectoryError, BackupUnreachable.
    """
    slots = sorted(path.parent for path in (home / "state").glob("*/[0-9]*/tables") if path.is_dir())
    chosen = [slot for slot in slots if not services or slot.parent.name in services]
    if not chosen:
        raise BackupError(f"{home} has no tables of {', '.join(services) or 'any service'}; name a worker's --home")
    there = {name.rpartition("/")[2] for name in vault.names(_folder(machine))}
    made, unwritten, stored = [], [], 0
    for slot in chosen:
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=slot) as folder:
            snapshot = _snapshot(slot, machine, Path(folder))
            if not any(snapshot.positions.values()):  # nothing that would say of which past it is
                unwritten.append(f"{snapshot.service} {snapshot.slot}")
                continue
            done, todo = 0, snapshot.size
            for database, files in snapshot.files.items():
                for name, (size, digest) in files.items():
                    step(f"{snapshot.service} {name}", done, todo)
                    if digest not in there:
                        vault.put(Path(folder) / database / name, f"{_folder(machine)}/{digest}")
                        there.add(digest)
                        stored += size
                    done += size
            vault.write_json(snapshot.name, {"version": VERSION, **snapshot._asdict()}, Path(folder))
            made.append(snapshot)
    if not made:
        raise BackupError(
            f"no table of {', '.join(unwritten)} under {home} is on disk yet; workers write them once a minute, and as "
            "they end: back up again later"
        )
    needed = {digest for each in snapshots(vault, machine) for digest in each.digests()}
    for digest in there - needed:
        vault.remove(f"{_folder(machine)}/{digest}")
    return BackedTables(made, stored, unwritten)


def _folder(machine: str) -> str:
    return f"tables/{machine}/files"


def _snapshot(slot: Path, machine: str, folder: Path) -> Snapshot:
    """Copy the databases of a slot into a folder, and return what is there."""
    positions, files = {}, {}
    now_ms = int(1000 * time.time())
    for database in DATABASES:
        if (slot / database / "CURRENT").exists():
            positions[database] = take(slot / database, folder / database)
            paths = sorted(path for path in (folder / database).iterdir() if path.name not in ("LOCK", "LOG"))
            files[database] = {path.name: (path.stat().st_size, digest_of(path)) for path in paths}
    return Snapshot(machine, slot.parent.name, int(slot.name), now_ms, files, positions)


def snapshots(vault: Vault, machine: str | None = None) -> list[Snapshot]:
    """Return the snapshots in a backup, of a machine or of all."""
    folder = "tables" if machine is None else f"tables/{machine}"
    return [_read(vault, name) for name in vault.names(folder) if name.endswith(".json")]


def _read(vault: Vault, name: str) -> Snapshot:
    told: dict[str, Any] = vault.read_json(name)
    if told.pop("version", None) != VERSION:
        raise BackupError(f"{vault.url}/{name} was written by another version of pipeline backup")
    files = {
        database: {n: (size, digest) for n, (size, digest) in of.items()} for database, of in told["files"].items()
    }
    return Snapshot(**{**told, "files": files})


# --- the way back -----------------------------------------------------------------------------------------------------


def choose(vault: Vault, machine: str | None, services: Collection[str]) -> list[Snapshot]:
    """Return the snapshots of a machine; None: of the only one there is. Raises BackupError."""
    there = snapshots(vault)
    machines = sorted({each.machine for each in there})
    if not there:
        raise BackupError(f"{vault.url} has no tables; make a backup with: pipeline backup tables --to {vault.url}")
    if machine is None and len(machines) > 1:
        raise BackupError(f"{vault.url} has tables of {', '.join(machines)}; say with --name of which")
    chosen = [each for each in there if machine in (None, each.machine) and (not services or each.service in services)]
    if not chosen:
        has = ", ".join(f"{each.machine}: {each.service}" for each in there)
        raise BackupError(f"{vault.url} has no such tables; there are {has}")
    return chosen


def why_useless(bootstrap: str, snapshot: Snapshot) -> str:
    """Return why a worker of this cluster could not go on from a snapshot; empty if it can."""
    client = admin(bootstrap)
    stores = {name: at for of in snapshot.positions.values() for name, at in of.items()}
    topics = {n.removeprefix(IDENTITY) for at in stores.values() for n in at if n.startswith(IDENTITY)}
    if missing := sorted(topics - partition_counts(client).keys()):
        return f"the cluster has no topic {missing[0]}"
    facts = log_facts(client, sorted(topics))
    marks = {(topic, identity) for at in stores.values() for topic, identity in _named(at, IDENTITY).items()}
    if others := sorted(topic for topic, identity in marks if facts[topic].identity != identity):
        return f"it is of another cluster, or {others[0]} was deleted and created again since"
    return _not_fitting(bootstrap, stores, {topic: fact.delete_retention_ms for topic, fact in facts.items()})


def _not_fitting(bootstrap: str, stores: Mapping[str, Mapping[str, int]], keeps: Mapping[str, int]) -> str:
    now_ms = 1000 * time.time()
    changelogs: dict[TP, tuple[int, int]] = {}
    for name, at in stores.items():
        partition = name.rpartition("-")[2]
        for topic, offset in _named(at, CHANGELOG).items() if partition.isdigit() else ():
            changelogs[TP(topic, int(partition))] = offset, at.get(CAUGHT_UP_MS, 0)
    ends = end_offsets(admin(bootstrap), sorted(changelogs))
    for tp, (offset, caught_up_ms) in sorted(changelogs.items()):
        if offset > ends[tp]:
            return (
                f"it has {tp.topic}-{tp.partition} up to {offset}, whose log ends at {ends[tp]}: it is of another past"
            )
        age_ms = now_ms - caught_up_ms
        if offset + 1 < ends[tp] and age_ms > keeps.get(tp.topic, age_ms) / 2:
            return (
                f"it is {age_ms / 3_600_000:.1f} hours old, and {tp.topic} keeps deletions for "
                f"{keeps[tp.topic] / 3_600_000:.0f} hours: half of that is trusted; raise its delete.retention.ms"
            )
    return ""


def _named(at: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): value for name, value in at.items() if name.startswith(prefix)}


def restore(
    bootstrap: str, vault: Vault, chosen: Collection[Snapshot], home: Path, step: Step = lambda *_: None
) -> int:
    """Put snapshots into a home whose slots are free and empty. Return the bytes fetched; what is there stays.

    Raises RestoreRefused, BackupError, StateDirectoryError.
    """
    for each in chosen:
        if why := why_useless(bootstrap, each):
            raise RestoreRefused(
                f"the tables of {each.service} from {each.machine} are of no use here: {why}. Nothing was restored; a "
                "worker makes its tables from the changelogs by itself"
            )
    fetched, done, todo = 0, 0, sum(each.size for each in chosen)
    for each in chosen:
        _, stores = claim_slot(home / "state", each.service, each.slot)
        try:
            for database, files in each.files.items():
                target = stores.directory / database
                if target.exists():
                    raise RestoreRefused(f"{target} is there already; name another --home, or remove it")
                part = stores.directory / f"{database}.restoring"
                part.mkdir(exist_ok=True)
                for name, (size, digest) in files.items():
                    step(f"{each.service} {name}", done, todo)
                    path = part / name
                    if not (path.exists() and path.stat().st_size == size and digest_of(path) == digest):
                        vault.get(f"{_folder(each.machine)}/{digest}", path, digest)
                        fetched += size
                    done += size
                part.rename(target)
        finally:
            stores.close()
    return fetched

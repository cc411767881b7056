"""Running out of open files is no damage: nothing is deleted, the error says what to do, and the rows are there then.

Real limits, in processes of their own.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.adapters import descriptors
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.rocksdb.database import FILES_MIN
from pipeline.adapters.rocksdb.stores import RocksStore, RocksStores, claim_slot
from pipeline.adapters.sql import SqlDatabase, SqlStores, database_url
from pipeline.engine.ports import TP
from pipeline.errors import OutOfDescriptors, TableUnavailable
from tests.contract.test_store import ONE, SCHEMAS, TABLES, TWO

FILES = 12  # table files, more than RocksDB keeps open where it may have FILES_MIN
ROWS = {b"t\0%02d-%d" % (file, n): b"%d" % file for file in range(FILES) for n in range(50)}
LEFT = range(24)  # open files that are left, from none to enough for anything


@contextmanager
def exhausted(left: int) -> Iterator[None]:
    """No more files can be opened, but for so many."""
    taken: list[int] = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for _ in range(left):
        os.close(taken.pop())
    try:
        yield
    finally:
        for number in taken:
            os.close(number)


def stores_in(home: Path) -> RocksStores:
    return claim_slot(home, "service", 0, FILES_MIN)[1]


def fill(home: Path) -> None:
    stores = stores_in(home)
    store, beside = stores.open("topic-0"), stores.open("topic-1")
    beside.write([(b"t\0beside", b"1")], {})
    for file in range(FILES):
        own = [(key, value) for key, value in ROWS.items() if key.startswith(b"t\0%02d-" % file)]
        store.write(own, {"source:topic": file})
        store.flush()
    store.close()
    beside.close()
    stores.close()


def check_nothing_is_lost(home: Path) -> None:
    assert not list(home.rglob("damaged"))
    stores = stores_in(home)
    store = stores.open("topic-0")
    assert store.damage is None
    assert store.position("source:topic") == FILES - 1
    found = dict(store.scan(b"t\0", b"", 10_000))
    assert ROWS.items() <= found.items()
    store.close()
    beside = stores.open("topic-1")
    assert (beside.damage, beside.get(b"t\0beside")) == (None, b"1")
    beside.close()
    stores.close()


def check_cure(told: str) -> None:
    assert "ulimit -n" in told
    assert "delete" not in told


def opening(home: Path, left: int) -> None:
    with exhausted(left):
        stores = stores_in(home)
        store = stores.open("topic-0")
    store.close()
    stores.close()


def use(home: Path, left: int, call: Callable[[RocksStore], object]) -> None:
    stores = stores_in(home)
    store = stores.open("topic-0")
    try:
        with exhausted(left):
            call(store)
    finally:
        store.close()
        stores.close()


def write(store: RocksStore) -> None:
    for _ in range(3):  # what has failed once fails again
        try:
            store.write([(b"u\0new", os.urandom(100))], {})
            store.flush()
        except OutOfDescriptors as error:
            failed = error
        else:
            return
    raise failed


def in_rocksdb(home: Path) -> set[str]:
    told = set()
    fill(home)
    uses = {
        "opened": opening,
        "scanned": lambda home, left: use(home, left, lambda store: store.scan(b"t\0", b"", 10_000)),
        "got": lambda home, left: use(home, left, lambda store: [store.get(key) for key in ROWS]),
        "written": lambda home, left: use(home, left, write),
    }
    for name, attempt in uses.items():
        for left in LEFT:
            try:
                attempt(home, left)
            except OutOfDescriptors as error:
                check_cure(str(error))
                told.add(name)
            check_nothing_is_lost(home)
    return told


def in_sqlite(home: Path) -> set[str]:
    told = set()
    database = SqlDatabase("service", database_url(f"sqlite:///{home / 'tables.sqlite'}"))
    stores = SqlStores(database, Registry(SCHEMAS))
    stores.open(TP("topic", 0), TABLES).write([(b"t\0a", ONE)], {"source:topic": 1})
    for left in LEFT:
        database.close()  # its connections; with the next question there is another one
        try:
            with exhausted(left):
                stores.open(TP("topic", 0), TABLES).write([(b"t\0b", TWO)], {"source:topic": 2})
        except OutOfDescriptors as error:
            check_cure(str(error))
            told.add("opened")
        database.close()
        assert stores.open(TP("topic", 0), TABLES).get(b"t\0a") == ONE
    return told


@pytest.mark.parametrize(("kept", "expected"), [("rocksdb", {"opened", "written"}), ("sqlite", {"opened"})])
def test_with_however_few_files_left_nothing_is_taken_for_damaged(
    tmp_path: Path, kept: str, expected: set[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", __name__, kept, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= expected


def test_a_closed_store_has_given_its_files_back(tmp_path: Path) -> None:
    stores = stores_in(tmp_path)
    before = len(os.listdir("/dev/fd"))
    opened = [stores.open(f"topic-{n}") for n in range(100)]
    with_all = len(os.listdir("/dev/fd"))
    assert with_all - before < 12, "a hundred tables share one database"
    for store in opened:
        store.close()
    assert len(os.listdir("/dev/fd")) == before
    with pytest.raises(TableUnavailable):
        opened[0].get(b"t\0a")
    stores.close()


def test_files_stay_bounded_however_many_there_are(tmp_path: Path) -> None:
    stores = stores_in(tmp_path)
    before = len(os.listdir("/dev/fd"))
    store = stores.open("topic-0")
    for n in range(120):
        store.write([(b"t\0%d" % n, os.urandom(50))], {})
        store.flush()
        assert [store.get(b"t\0%d" % each) is not None for each in range(n + 1)] == [True] * (n + 1)
        assert len(os.listdir("/dev/fd")) - before <= FILES_MIN + 4
    store.close()
    stores.close()


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    code = "from pipeline.adapters.descriptors import raise_limit; print(raise_limit())"
    for limits, expected in [("ulimit -n 700", "700"), ("ulimit -Sn 256; ulimit -Hn 900", "900")]:
        command = ["sh", "-c", f'{limits}; exec "$0" -c "$1"', sys.executable, code]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == expected


def test_where_the_system_refuses_more_than_the_hard_limit_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [256, resource.RLIM_INFINITY]

    def refuse(_: int, wanted: tuple[int, int]) -> None:
        if wanted[0] > 24_576:  # kern.maxfilesperproc of a Mac
            raise ValueError("current limit exceeds maximum limit")
        now[0] = wanted[0]

    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert descriptors.raise_limit() == 10_240
    now[0] = 20_000
    assert descriptors.raise_limit() == 20_000, "it is never lowered"


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
    print(*{"rocksdb": in_rocksdb, "sqlite": in_sqlite}[sys.argv[1]](Path(sys.argv[2])))

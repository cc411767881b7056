"""What every store must do. Each adapter that the lane may be given goes through the same cases."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.memory import MemoryDatabase, MemoryStores
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.adapters.sql import SqlDatabase, SqlStores, database_url
from pipeline.engine.ports import TP, Store
from pipeline.engine.state.table import TableSpec
from pipeline.errors import StateDirectoryError, StoreDamaged, TableUnavailable
from tests.helpers.postgres import Postgres

Open = Callable[[], Store]
SCHEMAS = Path(__file__).parent / "schemas"
ALL = ("rocksdb", "memory", "sqlite", "postgresql", "memory database")


@dataclass(frozen=True, slots=True)
class Text:
    text: str


TABLES = [TableSpec(name, f"{name}.row", codecs(SCHEMAS)(f"{name}.row", Text)) for name in ("t", "u")]
ONE, TWO, NONE = (TABLES[0].codec.encode(Text(text)) for text in ("1", "2", ""))
OF_U = TABLES[1].codec.encode(Text("1"))


def url_of(kind: str, request: pytest.FixtureRequest, home: Path) -> str:
    """Of a new, empty database."""
    if kind == "sqlite":
        return f"sqlite:///{home / 'tables.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(params=ALL)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store again and again."""
    if request.param == "memory":
        memory = MemoryStores()
        yield lambda: memory.open("topic-0")
    elif request.param == "rocksdb":
        _, stores = claim_slot(tmp_path, "service", None)
        yield lambda: stores.open("topic-0")
    elif request.param == "memory database":
        shared = MemoryDatabase()
        yield lambda: shared.open(TP("topic", 0), TABLES)
    else:
        database = SqlDatabase("service", database_url(url_of(request.param, request, tmp_path)))
        yield lambda: SqlStores(database, Registry(SCHEMAS)).open(TP("topic", 0), TABLES)
        database.close()


def test_what_is_put_is_got(reopen: Open) -> None:
    store = reopen()
    assert store.get(b"t\0a") is None
    store.write([(b"t\0a", ONE), (b"t\0b", NONE)], {})
    assert (store.get(b"t\0a"), store.get(b"t\0b")) == (ONE, NONE)


def test_none_deletes_and_the_last_one_counts(reopen: Open) -> None:
    store = reopen()
    store.write([(b"t\0a", ONE), (b"t\0a", None), (b"t\0b", ONE), (b"t\0b", TWO), (b"t\0c", None)], {})
    assert (store.get(b"t\0a"), store.get(b"t\0b"), store.get(b"t\0c")) == (None, TWO, None)
    store.write([(b"t\0b", None)], {})
    assert store.get(b"t\0b") is None


def test_positions_move_with_the_rows_and_are_no_rows(reopen: Open) -> None:
    store = reopen()
    assert store.position("source:t") is None
    store.write([(b"t\0k", ONE)], {"source:t": 7, "changelog:t": 2**64 - 1})
    store.write([], {"source:t": 8})
    assert (store.position("source:t"), store.position("changelog:t")) == (8, 2**64 - 1)
    assert store.scan(b"t\0", b"", 10) == [(b"t\0k", ONE)]


def test_a_scan_is_ordered_by_bytes_bounded_and_stays_within_its_prefix(reopen: Open) -> None:
    store = reopen()
    names = ["u\0z", "t\0ÿ", "t\0b", "t\0a/2", "t\0a", "t\0a/1", "t\0B", "u\0"]
    store.write([(name.encode(), OF_U if name[0] == "u" else ONE) for name in names], {"source:t": 1})

    def keys(prefix: str, start: str, limit: int) -> list[str]:
        return [key.decode() for key, _ in store.scan(prefix.encode(), start.encode(), limit)]

    assert keys("t\0", "", 10) == ["t\0B", "t\0a", "t\0a/1", "t\0a/2", "t\0b", "t\0ÿ"]
    assert keys("t\0", "t\0b", 10) == ["t\0b", "t\0ÿ"]
    assert keys("t\0", "t\0a\0", 2) == ["t\0a/1", "t\0a/2"]  # behind the key a
    assert keys("t\0a/", "", 10) == ["t\0a/1", "t\0a/2"]
    assert keys("t\0a/", "t\0a/1\0", 10) == ["t\0a/2"]
    assert keys("t\0", "", 1) == ["t\0B"]
    assert keys("t\0c", "", 10) == []
    assert keys("u\0", "", 10) == ["u\0", "u\0z"]


def test_what_is_of_no_table_lies_beside_them_under_any_key(reopen: Open) -> None:
    store = reopen()
    long = b"q\0" + b"x" * 5_000
    keys = [b"q\0\xff\0", long + b"\0", b"q\0", long, b"q\0\0", long[:1_000], long + b"a", b"p\0", b"r\0a"]
    store.write([(key, key[-3:] * 2) for key in keys], {"changelog:q": 1})
    store.write([(b"t\0q", ONE), (long, b""), (b"q\0", None), (b"r\0a", b"last")], {"changelog:q": 2})
    store.close()
    store = reopen()
    mine = sorted(key for key in keys if key.startswith(b"q\0") and key != b"q\0")
    assert [key for key, _ in store.scan(b"q\0", b"", 100)] == mine
    assert [key for key, _ in store.scan(b"q\0x", long, 2)] == [long, long + b"\0"]
    assert [key for key, _ in store.scan(b"q\0", mine[1] + b"\0", 3)] == mine[2:5]
    assert (store.get(long), store.get(b"q\0"), store.get(b"r\0a")) == (b"", None, b"last")
    assert store.scan(b"t\0", b"", 10) == [(b"t\0q", ONE)]
    store.wipe()
    assert (store.scan(b"q\0", b"", 10), store.get(b"r\0a")) == ([], None)


def test_a_clean_close_keeps_everything(reopen: Open) -> None:
    store = reopen()
    store.write([(b"t\0a", ONE)], {"source:t": 3})
    store.close()
    again = reopen()
    assert (again.get(b"t\0a"), again.position("source:t")) == (ONE, 3)


def test_a_wipe_leaves_nothing(reopen: Open) -> None:
    store = reopen()
    store.write([(b"t\0a", ONE), (b"u\0a", OF_U)], {"source:t": 3})
    store.wipe()
    assert (store.get(b"t\0a"), store.get(b"u\0a"), store.position("source:t")) == (None, None, None)
    store.write([(b"t\0a", TWO)], {})
    assert store.get(b"t\0a") == TWO


def test_a_closed_store_says_so(reopen: Open) -> None:
    store = reopen()
    store.close()
    with pytest.raises(TableUnavailable):
        store.get(b"t\0a")
    with pytest.raises(TableUnavailable):
        store.scan(b"t\0", b"", 1)
    with pytest.raises(TableUnavailable):
        store.position("source:t")


@pytest.mark.parametrize("reopen", ["rocksdb", "memory"], indirect=True)
def test_a_local_store_opens_once(reopen: Open) -> None:
    _store = reopen()
    with pytest.raises(StateDirectoryError, match="another worker"):
        reopen()


def test_a_slot_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    first, stores = claim_slot(tmp_path, "service", None)
    second, _others = claim_slot(tmp_path, "service", None)
    assert (first, second) == (0, 1)
    with pytest.raises(StateDirectoryError, match="slot 0 of service 'service'"):
        claim_slot(tmp_path, "service", 0)
    stores.close()
    assert claim_slot(tmp_path, "service", None)[0] == 0


def test_an_unusable_state_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirectoryError, match="choose another"):
        claim_slot(tmp_path / "file", "service", None)


def test_stores_that_share_a_database_see_nothing_of_each_other(tmp_path: Path) -> None:
    _, stores = claim_slot(tmp_path, "service", None)
    names = [f"topic-{n}" for n in range(300)]  # numbers of more than a byte
    opened = [stores.open(name) for name in names]
    for n, store in enumerate(opened):
        store.write([(b"t\0a", b"%d" % n), (b"\xff\xff\xff", b"last")], {"source:topic": n})
    opened[41].wipe()
    opened[255].wipe()
    for n, store in enumerate(opened):
        store.close()
        store = stores.open(names[n])
        whole = n not in (41, 255)
        assert store.scan(b"", b"", 10) == (
            [(b"\0position\0source:topic", n.to_bytes(8, "big")), (b"t\0a", b"%d" % n), (b"\xff\xff\xff", b"last")]
            if whole
            else []
        )
        assert store.position("source:topic") == (n if whole else None)
        store.close()
    stores.close()
    assert sorted(path.name for path in (tmp_path / "service" / "0").iterdir()) == ["lock", "service", "tables"]


def test_a_closed_store_is_on_the_disk_though_others_stay_open(tmp_path: Path) -> None:
    _, stores = claim_slot(tmp_path / "first", "service", None)
    store, _beside = stores.open("topic-0"), stores.open("topic-1")
    store.write([(b"t\0a", ONE)], {"source:t": 3})
    store.close()
    shutil.copytree(tmp_path / "first", tmp_path / "after a crash")
    _, stores = claim_slot(tmp_path / "after a crash", "service", None)
    assert stores.open("topic-0").position("source:t") == 3


def test_a_damaged_database_begins_anew_and_each_of_its_stores_says_so_once(tmp_path: Path) -> None:
    _, stores = claim_slot(tmp_path, "service", None)
    for name in ("topic-0", "topic-1", "history.t-0"):
        with closing(stores.open(name)) as store:
            store.write([(b"t\0a", ONE)], {"source:t": 3})
    for table in stores.directory.glob("tables/*.sst"):
        table.write_bytes(table.read_bytes()[:100])
    one, other = stores.open("topic-0"), stores.open("topic-1")
    assert one.damage
    assert other.damage
    assert (one.get(b"t\0a"), other.get(b"t\0a")) == (None, None)
    with closing(stores.open("history.t-0")) as history:
        assert (history.damage, history.get(b"t\0a")) == (None, ONE)
    one.close()
    assert stores.open("topic-0").damage is None


def test_a_database_that_fails_while_it_is_open_is_not_used_again(tmp_path: Path) -> None:
    _, stores = claim_slot(tmp_path, "service", None)
    store, left_open = stores.open("topic-0"), stores.open("topic-1")
    store.write([(b"t\0a", ONE)], {})
    assert isinstance(store._database.failed(RuntimeError("Corruption: checksum mismatch")), StoreDamaged)
    store.close()
    again = stores.open("topic-0")
    assert "checksum mismatch" in (again.damage or "")
    assert again.get(b"t\0a") is None
    with pytest.raises(TableUnavailable):
        left_open.get(b"t\0a")


@pytest.mark.parametrize(
    ("told", "cure"),
    [
        ("IO error: While open a file for appending: /x/000012.sst: Too many open files", "ulimit -n"),
        ("Corruption: Can't access /000012.sst: IO error: Too many open files in system", "ulimit -n"),
        ("Failed to create config: Too many open files (os error 24)", "ulimit -n"),
        ("IO error: No space left on device: While appending to file: /x/000012.sst", "free some space"),
        ("IO error: While fsync: /x: Disk quota exceeded", "free some space"),
        ("IO error: While open a file for random read: /x: Permission denied", "let this user"),
        ("IO error: /x/LOCK: Read-only file system", "mount it for writing"),
        ("IO error: While mmap: Cannot allocate memory", "memory"),
    ],
)
def test_what_the_surroundings_lack_is_no_damage(tmp_path: Path, told: str, cure: str) -> None:
    _, stores = claim_slot(tmp_path, "service", None)
    with closing(stores.open("topic-0")) as store:
        store.write([(b"t\0a", ONE)], {})
        error = store._database.failed(RuntimeError(told))
    assert isinstance(error, StateDirectoryError)
    assert cure in str(error)
    assert "delete" not in str(error)
    with closing(stores.open("topic-0")) as store:
        assert (store.damage, store.get(b"t\0a")) == (None, ONE)

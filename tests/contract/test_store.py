"""What every store must do. Each adapter that the lane may be given goes through the same cases."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.adapters.memory import MemoryStores
from pipeline.adapters.tables import claim_slot
from pipeline.errors import StateDirectoryError, TableUnavailable
from pipeline.runtime.ports import Store

Open = Callable[[], Store]


@pytest.fixture(params=["rocksdb", "memory"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same store again and again."""
    if request.param == "memory":
        memory = MemoryStores()
        return lambda: memory.open("topic-0")
    _, stores = claim_slot(tmp_path, "service", None)
    return lambda: stores.open("topic-0")


def test_what_is_put_is_got(reopen: Open) -> None:
    store = reopen()
    assert store.get(b"a") is None
    store.write([(b"a", b"1"), (b"b", b"")], {})
    assert (store.get(b"a"), store.get(b"b")) == (b"1", b"")


def test_none_deletes_and_the_last_one_counts(reopen: Open) -> None:
    store = reopen()
    store.write([(b"a", b"1"), (b"a", None), (b"b", b"1"), (b"b", b"2")], {})
    assert (store.get(b"a"), store.get(b"b")) == (None, b"2")


def test_positions_move_with_the_rows_and_are_no_rows(reopen: Open) -> None:
    store = reopen()
    assert store.position("source:t") is None
    store.write([(b"t\0k", b"1")], {"source:t": 7, "changelog:t": 2**40})
    assert (store.position("source:t"), store.position("changelog:t")) == (7, 2**40)
    assert store.scan(b"t\0", b"", 10) == [(b"t\0k", b"1")]


def test_a_scan_is_ordered_bounded_and_stays_within_its_prefix(reopen: Open) -> None:
    store = reopen()
    store.write([(key, b"v") for key in (b"b\0z", b"a\0\xff", b"a\0b", b"a\0a", b"a", b"b\0")], {"source:t": 1})
    assert [key for key, _ in store.scan(b"a\0", b"", 10)] == [b"a\0a", b"a\0b", b"a\0\xff"]
    assert [key for key, _ in store.scan(b"a\0", b"a\0b", 10)] == [b"a\0b", b"a\0\xff"]
    assert [key for key, _ in store.scan(b"a\0", b"", 1)] == [b"a\0a"]
    assert store.scan(b"c\0", b"", 10) == []


def test_a_clean_close_keeps_everything(reopen: Open) -> None:
    store = reopen()
    store.write([(b"a", b"1")], {"source:t": 3})
    store.close()
    again = reopen()
    assert (again.get(b"a"), again.position("source:t")) == (b"1", 3)


def test_a_wipe_leaves_nothing(reopen: Open) -> None:
    store = reopen()
    store.write([(b"a", b"1")], {"source:t": 3})
    store.wipe()
    assert (store.get(b"a"), store.position("source:t")) == (None, None)
    store.write([(b"a", b"2")], {})
    assert store.get(b"a") == b"2"


def test_a_closed_store_says_so(reopen: Open) -> None:
    store = reopen()
    store.close()
    with pytest.raises(TableUnavailable):
        store.get(b"a")
    with pytest.raises(TableUnavailable):
        store.scan(b"a", b"", 1)


def test_a_store_opens_once(reopen: Open) -> None:
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

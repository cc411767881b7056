"""The table of deadlines: what is due comes in order of time, once; on tables in memory and on a real RocksDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.memory import MemoryStores
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.engine.ports import Store
from pipeline.engine.state.deadlines import Deadlines, deadline_key, deadline_rows, parts
from pipeline.engine.state.row_keys import READ_AT_ONCE, order_prefix
from pipeline.engine.state.table import TableSpec
from pipeline.model import NEVER, DeadlineMessage
from tests.simulation.worlds.tills import SCHEMAS

ROW = codecs(SCHEMAS)("deadlines", DeadlineMessage)
SPEC = TableSpec("tills.deadlines", "tills.deadlines", ROW, Deadlines, deadline_rows)


@pytest.fixture(params=["memory", "RocksDB"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStores().open("t")
        return
    _, stores = claim_slot(tmp_path, "tills", None)
    opened = stores.open("t")
    yield opened
    opened.close()
    stores.close()


def commit(table: Deadlines) -> list[tuple[bytes, bytes | None]]:
    changes = table.changes()
    rows, marks = table.kept(changes)
    table.store.write(rows, marks)
    table.mark_committed()
    return changes


def put(table: Deadlines, **due: int) -> None:
    for name, due_ms in due.items():
        kind, _, rest = name.partition("_")
        row = DeadlineMessage(due_ms, f"{name}@{due_ms}".encode())
        table.put(deadline_key(b"till-1", f"{kind}:{rest}"), row)


def taken(table: Deadlines, now_ms: int, most: int = 100) -> list[str]:
    return [fired.command.decode() for fired in table.take(now_ms, most)]


def test_what_is_due_comes_in_order_of_time_once(store: Store) -> None:
    table = Deadlines(SPEC, store)
    put(table, deadline_b=30, deadline_a=20, deadline_c=10, deadline_d=40)
    assert taken(table, 100) == [], "not committed yet"
    commit(table)
    assert (table.pending, table.next_ms) == (4, 10)
    assert taken(table, 9) == []
    assert taken(table, 30, 2) == ["deadline_c@10", "deadline_a@20"]
    assert taken(table, 30) == ["deadline_b@30"]
    assert (taken(table, 39), table.next_ms) == ([], 40)
    commit(table)
    assert (table.pending, table.active) == (1, True)
    assert taken(table, 40) == ["deadline_d@40"]
    commit(table)
    assert (table.pending, table.active, table.next_ms) == (0, False, NEVER)
    assert store.scan(b"tills", b"tills", 10) == [], "nothing is left, in no order"


def test_what_is_set_anew_comes_then_and_what_is_cancelled_never(store: Store) -> None:
    table = Deadlines(SPEC, store)
    put(table, deadline_a=10, deadline_b=20, deadline_c=30)
    commit(table)
    put(table, deadline_a=50)
    put(table, deadline_c=5)
    table.put(deadline_key(b"till-1", "deadline:b"), None)
    assert taken(table, 40) == [], "what this transaction has changed is not what is committed"
    commit(table)
    assert taken(table, 100) == ["deadline_c@5", "deadline_a@50"]


def test_an_aborted_transaction_has_fired_nothing(store: Store) -> None:
    table = Deadlines(SPEC, store)
    put(table, deadline_a=10, deadline_b=20)
    commit(table)
    assert taken(table, 15) == ["deadline_a@10"]
    put(table, deadline_b=5)
    table.roll_back()
    assert taken(table, 25) == ["deadline_a@10", "deadline_b@20"]


def test_a_scheduled_command_stays_until_it_is_decided(store: Store) -> None:
    table = Deadlines(SPEC, store)
    name = deadline_key(b"till-1", "command:c1")
    put(table, command_c1=10)
    commit(table)
    assert taken(table, 10) == ["command_c1@10"]
    commit(table)
    assert table.get(name) == DeadlineMessage(NEVER, b"command_c1@10")
    assert (taken(table, 10**15), table.pending) == ([], 1)
    table.put(name, None)
    commit(table)
    assert (table.get(name), table.pending) == (None, 0)


def test_many_are_counted_at_the_start_and_read_in_parts(store: Store) -> None:
    count = 2 * READ_AT_ONCE + 7
    changes = [
        (deadline_key(b"till-1", f"deadline:{n:06}"), ROW.encode(DeadlineMessage(n // 3, b"%d" % n)))
        for n in range(count)
    ]
    store.write(deadline_rows(SPEC, store, changes), {})
    table = Deadlines(SPEC, store)
    assert table.active, "as long as nobody has looked"
    seen = [fired.command for fired in table.take(count, 150)]
    assert (len(seen), table.pending) == (150, count)
    while part := table.take(count, 150):
        commit(table)
        seen += [fired.command for fired in part]
    commit(table)
    assert seen == [b"%d" % n for n in range(count)]
    assert (table.pending, store.scan(b"tills", b"tills", 1)) == (0, [])


names = st.sampled_from(["deadline:a", "deadline:b", "deadline:c"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), names, st.integers(0, 30)),
        st.tuples(st.just("cancel"), names, st.just(0)),
        st.tuples(st.just("take"), st.just(""), st.integers(0, 30)),
        st.tuples(st.sampled_from(["commit", "drop", "reopen", "restore"]), st.just(""), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_it_is_a_dictionary_with_an_order(plan: list[tuple[str, str, int]]) -> None:
    """Held against the plainest model there is: two dictionaries, committed and not."""
    table = Deadlines(SPEC, MemoryStores().open("t"))
    committed: dict[bytes, int] = {}
    changed: dict[bytes, int | None] = {}
    log: list[tuple[bytes, bytes | None]] = []
    now_ms = 0
    for what, name, number in plan:
        key = deadline_key(b"k", name)
        if what == "put":
            table.put(key, DeadlineMessage(number, key))
            changed[key] = number
        elif what == "cancel":
            table.put(key, None)
            changed[key] = None
        elif what == "take":
            now_ms = max(now_ms, number)
            due = {key: at for key, at in committed.items() if at <= now_ms and key not in changed}
            assert [(f.due_ms, f.command) for f in table.take(now_ms, 2)] == sorted((at, k) for k, at in due.items())[
                :2
            ]
            changed |= dict.fromkeys([key for at, key in sorted((at, k) for k, at in due.items())[:2]])
        elif what == "commit":
            log += commit(table)
            committed |= changed  # type: ignore[arg-type]
            committed = {key: at for key, at in committed.items() if at is not None}
            changed.clear()
        elif what == "drop":
            table.roll_back()
            changed.clear()
        else:
            store = table.store
            if what == "restore":
                store = MemoryStores().open("t")
                for pair in log:
                    store.write(deadline_rows(SPEC, store, [pair]), {})
            table = Deadlines(SPEC, store)
            changed.clear()
        if table._counted and not changed:
            assert (table.pending, table.active) == (len(committed), bool(committed))
            assert table.next_ms <= min(committed.values(), default=NEVER)
    order = order_prefix(SPEC.name)
    places = [key[len(order) :] for key, _ in table.store.scan(order, order, 100)]
    assert places == sorted(at.to_bytes(8, "big") + key for key, at in committed.items())


def test_keys_of_rows_are_told_apart() -> None:
    assert parts(deadline_key("é".encode(), "command:c/1")) == ("é".encode(), "command:c/1")
    assert deadline_key(b"a", "deadline:b") != deadline_key(b"ad", "eadline:b")

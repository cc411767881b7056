"""Which instances of a saga have not ended: counted as they are committed, and read from the store at the start."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

import pytest

from pipeline.adapters.memory import MemoryStores
from pipeline.engine.state.sagas import ROWS, SagaTable, Unsettled
from pipeline.engine.state.table import TableSpec
from pipeline.model.saga.saga import Summary
from pipeline.testing import TestDriver
from tests.helpers.market import MARKET, Buy, Restock
from tests.simulation.sagas.test_sagas import answers_to_sagas_are_not_sent


class Row(NamedTuple):
    """A saga's state, as far as it matters here."""

    body: str
    time_ms: int


class Codec:
    """Rows as pickles."""

    fit = None

    def encode(self, value: Any) -> bytes:
        return pickle.dumps(tuple(value))

    def decode(self, data: bytes | None) -> Any:
        return None if data is None else Row(*pickle.loads(data))


def summary(status: str) -> Summary:
    if status == "broken":
        raise ValueError("the author's code")
    return Summary(status, "", 1, (), "")


class Sagas:
    """A table of sagas; each start of a worker reads it anew."""

    def __init__(self) -> None:
        self.store = MemoryStores().open("checkout.command-0")
        self.start()

    def start(self) -> None:
        self.table = SagaTable(summary, TableSpec("checkout", "checkout.state", Codec()), self.store)

    def commit(self, time_ms: int, **statuses: str | None) -> None:
        for key, status in statuses.items():
            self.table.put(key.encode(), None if status is None else Row(status, time_ms))
        self.store.write(self.table.kept(self.table.changes())[0], {})
        self.table.mark_committed()

    def read_all(self) -> int:
        """How many times there was more to read."""
        times = 0
        while self.table.read_on():
            times += 1
        return times

    @property
    def unsettled(self) -> dict[str, Unsettled]:
        return {key.decode(): each for key, each in self.table.unsettled.items()}


@pytest.fixture
def sagas() -> Sagas:
    found = Sagas()
    found.table.watch()
    return found


def test_an_instance_counts_from_its_first_event_to_its_end(sagas: Sagas) -> None:
    sagas.commit(100, a="running", b="running")
    sagas.commit(200, a="running", b="done")
    assert sagas.unsettled == {"a": Unsettled("running", 100, 100)}
    sagas.commit(300, a="stuck")
    sagas.commit(400, a="stuck")
    assert sagas.unsettled == {"a": Unsettled("stuck", 100, 300)}, "told again, it is as old as it was"
    sagas.commit(500, a="undone")
    assert sagas.unsettled == {}


def test_a_row_that_is_deleted_or_that_raises_is_not_counted(sagas: Sagas) -> None:
    sagas.commit(100, a="running", b="broken")
    sagas.commit(200, a=None)
    assert sagas.unsettled == {}


def test_what_is_in_the_store_is_read_a_part_at_a_time(sagas: Sagas) -> None:
    settled = {f"k{n:05}": "done" for n in range(2 * ROWS)}
    sagas.commit(100, **{**settled, "k00700": "running", "z": "stuck"})
    sagas.start()
    sagas.table.watch()
    assert sagas.unsettled == {}
    assert sagas.read_all() == 2
    assert sagas.unsettled == {"k00700": Unsettled("running", 100, 100), "z": Unsettled("stuck", 100, 100)}


def test_what_is_committed_meanwhile_is_newer_than_what_is_read(sagas: Sagas) -> None:
    sagas.commit(100, **{f"k{n:05}": "done" for n in range(ROWS)}, y="running", z="running")
    sagas.start()
    sagas.table.watch()
    assert sagas.table.read_on()
    sagas.commit(200, y="done")
    sagas.commit(300, z="stuck")
    sagas.read_all()
    assert sagas.unsettled == {"z": Unsettled("stuck", 300, 300)}


def test_what_is_rolled_back_does_not_count(sagas: Sagas) -> None:
    sagas.table.put(b"a", Row("running", 100))
    sagas.table.roll_back()
    sagas.commit(200, b="running")
    assert list(sagas.unsettled) == ["b"]


def test_a_table_that_is_not_watched_costs_and_keeps_nothing() -> None:
    sagas = Sagas()
    sagas.commit(100, a="running")
    assert sagas.unsettled == {}


def test_a_lane_tells_of_its_sagas_also_of_those_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    with TestDriver(MARKET, partitions=1) as driver:
        for key in ("tea", "pot"):
            driver.send("goods", key, Restock(9))
        answers_to_sagas_are_not_sent(monkeypatch)
        driver.send("sale", "o1", Buy("o1", 1, 1))
        lane = next(w.lane for w in driver._world.workers if w.plan.service.sagas)
        assert lane is not None
        (task,) = [task for task in lane._tasks.running() if task.source_topic.topic == "sale.command"]
        for table in task.watch_sagas():
            assert not table.read_on()
        driver.send("sale", "o2", Buy("o2", 1, 1))
        figures = lane.places.sagas()["sale"]
        assert dict(figures.statuses) == {"running": 2}
        assert 0 < figures.since_ms <= driver.now_ms
        assert figures.stuck_ms == 0

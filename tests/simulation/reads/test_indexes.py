"""Secondary indexes: right with each commit, in restores, and after they were declared otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.engine.ports import Store
from pipeline.engine.state.row_keys import table_prefix
from pipeline.errors import FoldError
from pipeline.server.reads.local_tables import LocalTables, Range
from pipeline.testing import Simulation, TestDriver
from pipeline.testing.simulation.world import World
from pipeline.topology import Topology
from tests.simulation.worlds import tills as t


def parity(row: t.OpenTill) -> str | None:
    return None if row.total == 7 else ("even", "odd")[row.total % 2]


def indexed(**indexes: Any) -> Topology:
    service = replace(t.TILLS, projections=[replace(t.open_tills, indexes=indexes)])
    return Topology("tills", {"tills": service}, t.SCHEMAS)


def found(driver: TestDriver, value: str, **wanted: Any) -> list[str]:
    """Keys that the index gives, of all partitions."""
    keys = []
    for worker in driver._world.workers:
        assert worker.lane is not None
        tables = LocalTables(lambda views=worker.lane.views: views)  # type: ignore[misc]
        for table, partition in list(worker.lane.views):
            if table == "open_tills":
                asked = Range(index="parity", value=value, **wanted)
                keys += [row["key"] for row in tables.scan(table, partition, asked, parity)]
    return sorted(keys)


def test_an_index_follows_its_rows() -> None:
    with TestDriver(indexed(parity=parity)) as driver:
        for n in range(20):
            driver.send("tills", f"till-{n:02}", t.Take(n + 11 if n % 5 else 7))
        rows = driver.rows("open_tills")
        for value in ("even", "odd"):
            assert found(driver, value) == sorted(key for key, row in rows.items() if parity(row) == value)
        driver.send("tills", "till-01", t.Take(1))
        driver.send("tills", "till-02", t.Close())
        rows = driver.rows("open_tills")
        assert "till-02" not in rows
        even = sorted(key for key, row in rows.items() if parity(row) == "even")
        assert found(driver, "even") == even
        assert found(driver, "even", prefix="till-1") == [key for key in even if key.startswith("till-1")]
        assert found(driver, "even", start="till-03", to="till-12") == [k for k in even if "till-03" <= k < "till-12"]
        assert found(driver, "even", limit=1, after=even[-1]) == []


def entries(store: Store, partition_rows: bytes = table_prefix("open_tills")) -> tuple[set[bytes], set[bytes]]:
    """What the index of a store holds, and what it should."""
    base, spec = b"open_tills.index.parity\0", t.open_tills
    there = {key for key, _ in store.scan(base, base, 10**6)}
    codec = t_codec()
    due = set()
    for key, data in store.scan(partition_rows, partition_rows, 10**6):
        value = parity(codec.decode(data))
        if value is not None:
            due.add(base + len(value).to_bytes(4, "big") + value.encode() + key[len(partition_rows) :])
    assert spec.name == "open_tills"
    return there, due


def t_codec() -> Any:
    from pipeline.adapters.avro.codec import codecs

    return codecs(t.SCHEMAS)("open_tills.row", t.OpenTill)


def test_an_index_is_right_after_whatever_faults() -> None:
    topology, looked = indexed(parity=parity), 0
    for seed in range(60):
        simulation = Simulation(topology, seed, commands=lambda rng: [c for c in t.commands(rng) if c[0] == "tills"])
        world = World(simulation._oracle, simulation.schedule)
        assert world.run() == [], seed
        for worker in world.workers:
            for name in worker.disk.disks:
                if name.startswith("tills.event"):
                    there, due = entries(worker.disk.open(name))
                    assert there == due, (seed, worker.name, name)
                    looked += len(due)
    assert looked > 50


def test_what_an_index_raises_stops_before_the_record() -> None:
    topology = indexed(total=lambda row: row.total)
    with TestDriver(topology) as driver, pytest.raises(FoldError, match="must give text or None, not 3, which is int"):
        driver.send("tills", "till-1", t.Take(3))

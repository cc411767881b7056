"""Values on their way through the engine: folded as they are stored, refused where they arise, judged by verify."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import Database
from pipeline.testing import TestDriver
from pipeline.topology import Topology
from tests.helpers import every_type
from tests.helpers.every_type import All, Label, Marked, Point, Put, PutNothing, Seen, Stored
from tests.unit.adapters.test_values import ALLS


@pytest.fixture(scope="module", params=[Database.ROCKSDB, Database.SQLITE], ids=lambda database: database.value)
def topology(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Topology:
    directory: Path = tmp_path_factory.mktemp("values") / "schemas"
    return every_type.topology(directory, request.param)


@pytest.fixture
def driver(topology: Topology) -> Iterator[TestDriver]:
    with TestDriver(topology, partitions=1, park=True) as made:
        yield made


def judged(driver: TestDriver) -> list[str]:
    return driver._oracle.judge(driver._world)


def narrowed(number: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def test_what_is_folded_is_what_is_stored(driver: TestDriver) -> None:
    for _ in range(5):
        driver.send("alls", "k", Put(All(narrow=0.1)), Put(All(narrow=1e7)))
    narrow = total = 0.0
    for _ in range(5):
        total = narrowed(narrowed(total + narrowed(0.1)) + 1e7)
        narrow = narrowed(narrowed(narrow + 0.1) + 0.1)
    assert driver.row("alls", "k").body.narrow == total
    assert driver.row("seen", "k").narrow == narrow
    assert judged(driver) == []


def test_a_number_of_another_class_is_folded_as_the_float_that_is_stored(driver: TestDriver) -> None:
    driver.send("alls", "k", PutNothing("other numbers"), Put(All(narrow=0.5)))
    (first, _) = driver.events("alls", "k")
    assert repr(first.all) == repr(All(narrow=narrowed(0.1), wide=0.1, maybe=1.0, weights={"a": narrowed(0.7)}))
    assert driver.parked() == []
    assert judged(driver) == []


@pytest.mark.parametrize(
    ("what", "topic", "cause"),
    [
        ("event is no number", "alls.command", "Stored.all.wide must be a finite number, not nan"),
        ("state is no number", "alls.command", r"All.points\[0\].x must be a finite number, not inf"),
        ("row is no number", "alls.event", "Seen.narrow must be a finite number, not nan"),
    ],
)
def test_a_number_that_json_does_not_have_is_parked_by_name(
    driver: TestDriver, what: str, topic: str, cause: str
) -> None:
    driver.send("alls", "k", Put(All(narrow=1.0)), PutNothing(what))
    driver.send("alls", "other", Put(All(narrow=2.0)))
    assert [(parked, key) for parked, key, _ in driver.parked()] == [(topic, "k")]
    with pytest.raises(Exception, match=cause), TestDriver(driver._oracle.topology) as strict:
        strict.send("alls", "k", PutNothing(what))
    assert driver.row("alls", "other").body.narrow == 2.0
    assert judged(driver) == []


@settings(deadline=None, suppress_health_check=[*HealthCheck], max_examples=30)
@given(st.lists(ALLS.map(Put) | st.builds(PutNothing, st.just("x") | st.just("nothing")), max_size=3))
def test_verify_is_clean_whatever_the_values_are(topology: Topology, commands: list[Put | PutNothing]) -> None:
    with TestDriver(topology, partitions=1, park=True) as driver:
        driver.send("alls", "k", *commands)
        assert [(tp, key) for tp, key, _ in driver.parked() if tp != "alls.event"] == []  # some no database takes
        assert judged(driver) == []


def test_named_tuples_are_messages_states_and_rows_like_any(driver: TestDriver) -> None:
    driver.send("alls", "k", PutNothing("x"), Put(All(named=Label("a"), shape=Point(1.0, "p"))))
    assert driver.events("alls", "k")[0] == Marked("x")
    assert isinstance(driver.events("alls", "k")[1], Stored)
    assert isinstance(driver.row("seen", "k"), Seen)
    assert judged(driver) == []

"""Windows by event time, what is too late, and the best of many."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import Projection, Service, Source, Tumbling, moment_ms, top
from pipeline.adapters.avro.codec import codecs
from pipeline.errors import TopologyError
from pipeline.flow import event_to_messages, late_events
from pipeline.model import EventMessage, moment_text
from pipeline.testing import TestDriver
from pipeline.topology import Topology
from pipeline.worker.metrics.lanes import LaneCollector
from topologies import inventory, reports, users
from topologies import orders as o

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR, DAY = 3_600_000, 86_400_000


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
def test_moments_are_those_of_the_calendar(when: datetime) -> None:
    exact = when.replace(microsecond=when.microsecond // 1000 * 1000, tzinfo=UTC)
    ms = (exact - EPOCH) // timedelta(milliseconds=1)
    assert moment_ms(exact.replace(tzinfo=None).isoformat(timespec="milliseconds")) == ms
    assert moment_text(ms) == exact.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
    assert moment_ms(exact.strftime("%Y-%m-%d").rjust(10, "0")) == ms // DAY * DAY


@pytest.mark.parametrize(
    "text", ["", "2009", "2009-13-01", "2009-02-29", "2009-12-01T24:00:00", "2009-12-01T10:00:00+01:00"]
)
def test_what_is_no_moment_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no"):
        moment_ms(text)


@given(st.integers(-(10**14), 10**14), st.integers(1, 10**9), st.integers(0, 10**9))
def test_every_moment_is_in_one_window(at: int, size: int, offset: int) -> None:
    windows = Tumbling(size, offset_ms=offset)
    start = windows.start(at)
    assert start <= at < start + size
    assert (start - offset) % size == 0
    assert windows.start(start) == start
    assert windows.start(start + size) == start + size


def hourly(grace_ms: int | None, **changes: object) -> Projection[object, object]:
    windows = Tumbling(HOUR, at=lambda event: event, grace_ms=grace_ms)
    source = Source("x.event", int)
    made = Projection("p", [source], 0, lambda r, m: r, by_key=int, route=lambda k, e: [("a", e)], windows=windows)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("grace_ms", "stored_ms", "late"),
    [(0, HOUR - 1, False), (0, HOUR, True), (5, HOUR + 4, False), (5, HOUR + 5, True), (None, 10**15, False)],
)
def test_an_event_is_late_once_its_windows_grace_is_over(grace_ms: int | None, stored_ms: int, late: bool) -> None:
    event = EventMessage(1, "c", "c", stored_ms, HOUR - 1)
    projection = hourly(grace_ms)
    assert late_events(projection, event) == late
    assert list(event_to_messages(projection, "t.event", "k", event)) == (
        [] if late else [("a/1970-01-01T00:00:00Z", HOUR - 1)]
    )


def test_without_a_time_of_its_own_an_event_happened_when_its_command_was_stored() -> None:
    projection = hourly(0, windows=Tumbling(HOUR))
    assert list(event_to_messages(projection, "t.event", "k", EventMessage(1, "c", "c", HOUR, 7))) == [
        ("a/1970-01-01T01:00:00Z", 7)
    ]


def test_windows_need_a_route() -> None:
    with pytest.raises(TopologyError, match="windows need"):
        Service("s", projections=[hourly(0, route=None, by_key=None)])


@pytest.mark.parametrize(
    "wrong",
    [
        *[{"size_ms": wrong} for wrong in (0, -1, 0.25, True, timedelta(seconds=1))],
        *[{"grace_ms": wrong} for wrong in (-1, 1.5)],
        {"offset_ms": 0.5},
    ],
)
def test_times_of_windows_are_whole_milliseconds(wrong: dict[str, Any]) -> None:
    with pytest.raises(TopologyError, match=f"Tumbling.{next(iter(wrong))}=.* whole number of milliseconds"):
        Tumbling(**{"size_ms": HOUR, **wrong})


@pytest.mark.parametrize("size", [1, 250, 999, 1000, 1500, HOUR])
def test_each_window_has_a_key_of_its_own_and_they_sort_as_it_does(size: int) -> None:
    projection = hourly(None, windows=Tumbling(size, at=lambda event: event))
    told = [
        event_to_messages(projection, "t.event", "k", EventMessage(1, "c", "c", 0, n * size)) for n in range(-20, 20)
    ]
    keys = [key for pairs in told for key, _ in pairs]
    assert sorted(set(keys)) == keys
    assert keys[20] == ("a/1970-01-01T00:00:00.000Z" if size < 1000 else "a/1970-01-01T00:00:00Z")


@pytest.mark.parametrize("at", [1.0, math.nan, None, "1", True, datetime(2009, 12, 1, tzinfo=UTC)])
def test_a_time_that_is_no_whole_number_raises(at: object) -> None:
    projection = hourly(None, windows=Tumbling(HOUR, at=lambda event: at))  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match=r"`at` of the windows gives .* for int, not a whole number"):
        event_to_messages(projection, "t.event", "k", EventMessage(1, "c", "c", 0, 1))


@pytest.mark.parametrize("at", [10**17, -(10**17), 253_402_300_800_000])
def test_a_time_whose_text_would_not_sort_raises(at: int) -> None:
    with pytest.raises(ValueError, match="not in the years 1 to 9999"):
        moment_text(at)


def test_top_keeps_the_best_and_one_of_each() -> None:
    best: tuple[tuple[str, int], ...] = ()
    for entry in [("a", 1), ("b", 5), ("c", 5), ("a", 7), ("d", 2), ("e", 5)]:
        best = top(best, entry, 3, of=lambda e: e[0], by=lambda e: e[1])
    assert best == (("a", 7), ("b", 5), ("c", 5))
    assert top((), ("a", 1), 0, of=lambda e: e[0], by=lambda e: e[1]) == ()


def placed(at: str, pence: int) -> o.PlaceOrder:
    return o.PlaceOrder("anna", "France", at, (o.Line("TEA", 1, pence),))


def test_the_shops_largest_orders_of_a_week(shop_topology: Topology) -> None:
    with TestDriver(shop_topology) as driver:
        driver.send("users", "anna", users.RegisterUser("Anna", "France"))
        driver.send("inventory", "TEA", inventory.RegisterProduct("TEA"), inventory.ReceiveStock(13))
        for n in range(12):
            driver.send("orders", f"o{n}", placed("2009-12-06T23:59:59", 100 + n))
        driver.send("orders", "monday", placed("2009-12-07T00:00:00", 5))
        rows = driver.rows("largest_orders")
    assert rows.keys() == {"France/2009-11-30T00:00:00Z", "France/2009-12-07T00:00:00Z"}
    week = rows["France/2009-11-30T00:00:00Z"].orders
    assert [order.number for order in week] == [f"o{n}" for n in range(11, 1, -1)]
    assert rows["France/2009-12-07T00:00:00Z"].orders == (reports.LargeOrder("monday", "anna", 5),)


def test_what_is_left_out_is_counted(shop_topology: Topology) -> None:
    strict = replace(reports.largest_orders, windows=replace(reports.largest_orders.windows, grace_ms=0))
    services = {**shop_topology.services, "reports": Service("reports", projections=[strict])}
    with TestDriver(replace(shop_topology, services=services), codecs=codecs(shop_topology.schemas)) as driver:
        driver.send("inventory", "TEA", inventory.RegisterProduct("TEA"), inventory.ReceiveStock(1))
        driver.send("orders", "old", placed("1969-12-06T23:59:59", 100))
        assert driver.rows("largest_orders") == {}
        worker = next(w for w in driver._world.workers if w.plan.service.name == "reports")
    assert worker.stats.late == {"largest_orders": 1}
    families = LaneCollector({"reports": worker.stats}, worker.clock).collect()
    (family,) = [f for f in families if f.name.startswith("pipeline_late")]
    assert family.samples[0].value == 1
    assert family.samples[0].labels == {"service": "reports", "projection": "largest_orders"}

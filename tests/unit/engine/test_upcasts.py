"""Old events in all places that fold or show events: each has them as events of today, and none sees an old class."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import Projection, Replica, Service
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.files import schema_files
from pipeline.engine.loop.lane import Lane
from pipeline.engine.parking.parking import Parking
from pipeline.engine.parking.parking_log import Audit
from pipeline.engine.ports import TP
from pipeline.errors import FoldError
from pipeline.flow import event_to_state
from pipeline.model import EventMessage, StateMessage
from pipeline.server.pages.history import page_of
from pipeline.server.pages.history import shown_events as shown
from pipeline.testing.simulation.driver import TestDriver
from pipeline.topology import Topology, load
from tests.helpers import accounts_split as a
from tests.helpers.orders_v1 import encoder, rolling
from topologies import checkout_saga as saga
from topologies import orders as o
from topologies import users as u

LINES = (o.Line("TEA", 2, 1500),)
PLACE = o.PlaceOrder("anna", "France", "2009-12-01T07:45:00", LINES)
PLACED = o.OrderPlaced("anna", "France", "2009-12-01", "07:45:00", LINES)


@dataclass(frozen=True, slots=True)
class Placed:
    day: str
    orders: int


@dataclass(frozen=True, slots=True)
class OnDay:
    order: str


class Desk:
    """A service of the shop's that follows orders in all ways. `broken`: whether its code raises on them."""

    def __init__(self) -> None:
        self.broken = False
        source = o.orders.events
        self.service = Service(
            "desk",
            projections=[
                Projection("placed", [source], Placed("", 0), self._placed),
                Projection("by_day", [source], Placed("", 0), self._on_day, by_key=OnDay, route=self._route),
            ],
            replicas=[Replica("known_orders", source, Placed("", 0), self._placed)],
        )

    def _placed(self, row: Placed, event: o.Event) -> Placed:
        if self.broken:
            raise ValueError("the desk is closed")
        return Placed(event.day, row.orders + 1) if isinstance(event, o.OrderPlaced) else row

    def _route(self, key: str, event: o.Event) -> list[tuple[str, OnDay]]:
        return [(event.day, OnDay(key))] if isinstance(event, o.OrderPlaced) else []

    def _on_day(self, row: Placed, message: OnDay) -> Placed:
        return Placed("", row.orders + 1)


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk()


@pytest.fixture(scope="module")
def shop(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Topology:
    """The shop's orders and what follows them, and the desk."""
    whole = load("topologies")
    schemas = tmp_path_factory.mktemp("upcasts") / "schemas"
    shutil.copytree(whole.schemas, schemas)
    for file in schema_files([desk.service], schemas):
        file.path.write_text(file.text)
    Registry(schemas).register()
    shop = whole.only("users", "orders", "inventory", "payments", "checkout_saga")
    return replace(shop, services={**shop.services, "desk": desk.service}, schemas=schemas)


@pytest.fixture
def driver(shop: Topology, desk: Desk) -> Iterator[TestDriver]:
    """A shop whose orders are written by workers of before, and read by those of today."""
    desk.broken = False
    made = rolling(codecs(shop.schemas), shop.schemas)
    with TestDriver(replace(shop), codecs=made, park=True, partitions=1) as driver:
        driver.send("users", "anna", u.RegisterUser("Anna", "France"))
        yield driver
        assert driver._oracle.judge(driver._world) == []  # which is `verify`, and compares histories and disks


def lane_of(driver: TestDriver, service: str) -> Lane:
    (lane,) = [w.lane for w in driver._world.workers if w.plan.service.name == service]
    assert lane is not None
    return lane


def test_the_records_are_old_ones(driver: TestDriver, shop: Topology) -> None:
    driver.send("orders", "1", PLACE)
    log = driver._world.kafka.topics["orders.event"].logs[0].archive
    first = next(record.value() for record in log if record.decided)
    assert first[:5] == encoder(shop.schemas)(EventMessage(1, "c", "c", 0, PLACED))[:5]
    assert PLACE.at.encode() in first


def test_fold_and_history_have_events_of_today(driver: TestDriver) -> None:
    driver.send("orders", "1", PLACE)
    driver.advance(1)
    reader = lane_of(driver, "orders").histories["orders", 0].past
    (first, *_) = page_of(reader, b"1", 0, 10)["events"]
    assert first["event"]["type"] == "OrderPlaced"
    assert (first["event"]["day"], first["event"]["time"], first["version"]) == ("2009-12-01", "07:45:00", 1)
    state = reader.state(b"1", 1)
    assert state is not None
    assert (state.body.at, state.body.status) == (PLACE.at, "placed")


def test_projections_replica_and_what_watches_rows_have_them(driver: TestDriver) -> None:
    driver.send("orders", "1", PLACE)
    driver.send("orders", "2", replace(PLACE, at="2009-12-02"))
    assert driver.row("placed", "1") == driver.row("known_orders", "1") == Placed("2009-12-01", 1)
    assert driver.rows("by_day") == {"2009-12-01": Placed("", 1), "2009-12-02": Placed("", 1)}
    assert driver.records("placed.row", 0)[0] == ("1", Placed("2009-12-01", 1))  # which is what is watched


def test_a_reaction_sends_what_it_sends_on_events_of_today_under_the_same_ids(driver: TestDriver) -> None:
    driver.send("orders", "1", PLACE)
    (command,) = [m for _, m in driver.records("checkout_saga.command") if isinstance(m.body, saga.BeginCheckout)]
    assert command.id == "checkout_saga_begins/1/1/0"
    assert command.body == saga.BeginCheckout("1", "anna", 3000, (saga.Units("TEA", 2),))


def test_a_redriven_event_is_upcast_like_any_other(driver: TestDriver, desk: Desk) -> None:
    desk.broken = True
    driver.send("orders", "1", PLACE)
    assert [(topic, key) for topic, key, _ in driver.parked()] == [("orders.event", "1")]
    desk.broken = False
    driver.redrive()
    lane_of(driver, "desk").redrive_copy("known_orders", 0, b"1", Audit("test", "mended"))
    assert driver.parked() == []
    assert driver.row("placed", "1") == driver.row("known_orders", "1") == Placed("2009-12-01", 1)


def test_the_judge_finds_an_upcaster_that_is_left_out_on_redrive(
    shop: Topology, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.broken = True
    with TestDriver(
        replace(shop), codecs=rolling(codecs(shop.schemas), shop.schemas), park=True, partitions=1
    ) as driver:
        driver.send("users", "anna", u.RegisterUser("Anna", "France"))
        driver.send("orders", "1", PLACE)
        desk.broken = False
        monkeypatch.setattr(Parking, "_fold_again", as_it_stands(shop, Parking._fold_again))
        driver.redrive()
        lane_of(driver, "desk").redrive_copy("known_orders", 0, b"1", Audit("test", "mended"))
        found = driver._oracle.judge(driver._world)
        assert [each for each in found if "desk: placed" in each], found


def as_it_stands(shop: Topology, fold_again: Any) -> Any:
    """The planted bug: a redrive that reads old events as they were written."""
    codec = codecs(shop.schemas)("orders.event", EventMessage, o.Event | o.OrderPlacedV1, strict=False)

    def fold(self: Parking, *asked: Any) -> Any:
        usual, self.source_topic.codec = self.source_topic.codec, codec
        try:
            return fold_again(self, *asked)
        finally:
            self.source_topic.codec = usual

    return fold


def test_what_was_decided_on_an_old_event_goes_on_today(driver: TestDriver) -> None:
    driver.send("orders", "1", PLACE)  # which is refused, as there is no tea
    state: StateMessage | None = None
    for event in [m for key, m in driver.records("orders.event") if key == "1"]:
        state = event_to_state(o.orders, b"1", state, event)
    assert driver.row("orders", "1") == state


def test_schemas_are_those_of_the_repository(shop: Topology) -> None:
    assert Path(shop.schemas, "orders.event.avsc").read_text() == Path("schemas/orders.event.avsc").read_text()
    differing = [file.path.name for file in schema_files(shop.services.values(), shop.schemas) if file.differs]
    assert differing == []


# --- an upcaster that fails -------------------------------------------------------------------------------------------


class Failing:
    """An upcaster that may be broken."""

    broken = True

    def __call__(self, old: a.Transferred) -> list[a.Withdrawn | a.Charged]:
        if self.broken:
            raise ValueError("no such fee")
        return a.split(old)


def cause_of(driver: TestDriver, topic: str) -> str:
    (log,) = driver._world.kafka.topics[topic].logs
    return next(value.decode() for record in log.archive for name, value in record.headers() if name == "parked-cause")


def test_what_cannot_be_upcast_is_parked_and_held_with_the_upcasters_name(tmp_path: Path) -> None:
    upcaster = Failing()
    then, now = a.topologies(tmp_path, replace(a.NOW, upcasts={**a.UPCASTS, a.Transferred: upcaster}))
    write = codecs(then.schemas)("accounts.event", EventMessage, a.THEN.event).encode
    with TestDriver(now, park=True, partitions=1) as driver:
        events = (a.Greeted("hello"), a.Transferred(10, 1), a.Greeted("bye"))
        for version, event in enumerate(events, 1):
            record = write(EventMessage(version, "c", "c", driver.now_ms, event))
            driver._world.kafka.append(TP("accounts.event", 0), b"anna", record)
        driver.advance(5)
        assert [(topic, key) for topic, key, _ in driver.parked()] == [("accounts.event", "anna")]
        cause = "UpcastFailed: the upcaster of Transferred on accounts.event raised ValueError: no such fee"
        assert cause_of(driver, "mirror.parked") == cause
        held = lane_of(driver, "mirror")._tasks.holding_replica("copied", 0, b"anna").queues[0].error(b"anna")
        assert "the upcaster of Transferred on accounts.event raised ValueError: no such fee" in str(held)

        upcaster.broken = False
        driver.redrive()
        lane_of(driver, "mirror").redrive_copy("copied", 0, b"anna", Audit("test", "mended"))
        assert driver.row("sums", "anna") == driver.row("copied", "anna") == a.Sum(2, 11)
        assert driver.rows("kinds") == {"Withdrawn": a.Sum(1, 10), "Charged": a.Sum(1, 1)}
        assert driver.row("notes", "anna").body.texts == ("Withdrawn 10 at 2", "Charged 1 at 2")
        ids = [message.id for _, message in driver.records("notes.command")]
        assert ids == ["noting/anna/2/0", "noting/anna/2/1"]
        page = page_of(lane_of(driver, "accounts").histories["accounts", 0].past, b"anna", 0, 10)
        assert [(each["version"], (each["event"] or {}).get("type")) for each in page["events"]] == [
            (1, None),
            (2, "Withdrawn"),
            (2, "Charged"),
            (3, None),
        ]


def test_the_history_says_which_upcaster_fails(tmp_path: Path) -> None:
    then, now = a.topologies(tmp_path, replace(a.NOW, upcasts={**a.UPCASTS, a.Transferred: Failing()}))
    events = now.services["accounts"].aggregates[0].events
    codec = codecs(now.schemas)("accounts.event", EventMessage, events.event, upcasts=events.upcasts)
    write = codecs(then.schemas)("accounts.event", EventMessage, a.THEN.event).encode
    read = codec.decode(write(EventMessage(1, "c", "c", 0, a.Transferred(10, 1))))
    with pytest.raises(FoldError, match="version 1 cannot be shown: the upcaster of Transferred"):
        shown(read)

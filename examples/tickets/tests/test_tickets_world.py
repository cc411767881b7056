"""The whole shop in memory: time that passes, many buyers at once, and histories with every fault."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.testing import Simulation, TestDriver
from pipeline.topology import load
from tickets.bookings import Booking, OpenBooking
from tickets.seats import BuySeat, HoldSeat, LetGo
from tickets.shows import PlanShow

TICKETS = load("tickets")
HISTORIES = 24


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    with TestDriver(TICKETS) as running:
        running.send("shows", "hamlet", PlanShow("Hamlet", rows=2, seats=3))
        yield running


def seen(driver: TestDriver) -> tuple[int, int, int]:
    """How many seats are free, held and sold, as the map shows them."""
    row = driver.rows("seat_map")["hamlet"]
    return row.free, row.held, row.sold


def test_a_hall_has_its_seats(driver: TestDriver) -> None:
    assert set(driver.rows("seat_map")["hamlet"].seats) == {"A1", "A2", "A3", "B1", "B2", "B3"}
    assert seen(driver) == (6, 0, 0)


def test_a_hold_ends_by_itself_unless_the_seat_is_bought(driver: TestDriver) -> None:
    driver.send("seats", "hamlet:A1", HoldSeat("b1", seconds=120))
    driver.send("seats", "hamlet:A2", HoldSeat("b1", seconds=120), BuySeat("b1"))
    driver.advance(110)
    assert seen(driver) == (4, 1, 1)
    driver.advance(15)
    assert seen(driver) == (5, 0, 1)
    assert driver.rows("bookings")["b1"].body.seats == ("hamlet:A2",)
    driver.send("seats", "hamlet:A1", BuySeat("b1"))
    assert seen(driver) == (5, 0, 1), "too late"


def test_a_reference_belongs_to_one_booking(driver: TestDriver) -> None:
    driver.send("bookings", "b1", OpenBooking("Anna", "K7M2QX"))
    driver.send("bookings", "b2", OpenBooking("Bert", "k7m2qx"))
    assert driver.rows("bookings")["b1"].body == Booking("Anna", "K7M2QX")
    assert driver.row("bookings", "b2") is None
    driver.send("bookings", "b2", OpenBooking("Bert", "P3ZZ9A"))
    assert driver.rows("bookings")["b2"].body == Booking("Bert", "P3ZZ9A")


def test_fifty_buyers_at_once_do_not_overbook_six_seats(driver: TestDriver) -> None:
    rng = random.Random(1)
    orders = [(f"b{buyer}", seat) for buyer in range(50) for seat in driver.rows("seat_map")["hamlet"].seats]
    for command in (HoldSeat, BuySeat):
        rng.shuffle(orders)
        for booking, seat in orders:
            driver.send_unseen("seats", f"hamlet:{seat}", command(booking))
    driver.advance(10)
    assert seen(driver) == (0, 0, 6)
    booked = [seat for booking in driver.rows("bookings").values() for seat in booking.body.seats]
    assert sorted(booked) == ["hamlet:A1", "hamlet:A2", "hamlet:A3", "hamlet:B1", "hamlet:B2", "hamlet:B3"]


def evening(rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    """What buyers ask in one history: the same few seats and references, some of them after a hold has ended."""
    yield "shows", "hamlet", PlanShow("Hamlet", rows=1, seats=2)
    for _ in range(rng.randrange(3, 12)):
        booking, seat = rng.choice(("b1", "b2", "b3")), f"hamlet:A{rng.randrange(1, 3)}"
        if rng.random() < 0.25:
            yield "bookings", booking, OpenBooking(booking, rng.choice(("AAAAAA", "BBBBBB")))
        else:
            asks = HoldSeat(booking, rng.choice((1, 2, 600))), BuySeat(booking), BuySeat(booking), LetGo(booking)
            yield "seats", seat, rng.choice(asks)


def test_no_fault_sells_a_seat_twice_or_keeps_one_for_ever() -> None:
    """Crashes, zombies, lost answers …: `pipeline verify` and the invariants judge each history at its end."""
    for seed in range(HISTORIES):
        Simulation(TICKETS, seed, commands=evening).check()

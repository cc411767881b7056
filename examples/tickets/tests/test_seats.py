"""A seat: held, freed by its deadline, sold once. No broker, no waiting."""

from __future__ import annotations

import pytest

from pipeline import Cancel, Deadline, Rejected
from pipeline.testing import given
from tickets.seats import (
    BuySeat,
    EndHold,
    HoldSeat,
    LetGo,
    OfferSeat,
    SeatFreed,
    SeatHeld,
    SeatOffered,
    SeatSold,
    seats,
)

FREE = given(seats, SeatOffered())
HELD = given(seats, SeatOffered(), SeatHeld("b1"))


def test_a_seat_is_held_for_minutes_and_then_free_again() -> None:
    expiry = Deadline("hold", EndHold(1), after=300)
    held = FREE.when(HoldSeat("b1")).then(SeatHeld("b1"), expiry)
    freed = held.when(EndHold(1)).then(SeatFreed("b1"))
    freed.when(HoldSeat("b2", 60)).then(SeatHeld("b2"), Deadline("hold", EndHold(2), after=60))


def test_a_seat_that_is_held_can_be_had_by_nobody_else() -> None:
    HELD.when(HoldSeat("b2")).then(Rejected("held"))
    HELD.when(BuySeat("b2")).then(Rejected("not_held"))
    HELD.when(LetGo("b2")).then(Rejected("not_held"))
    FREE.when(BuySeat("b1")).then(Rejected("not_held"))


def test_a_seat_is_sold_once() -> None:
    sold = HELD.when(BuySeat("b1")).then(SeatSold("b1"), Cancel("hold"))
    for command in (BuySeat("b1"), BuySeat("b2"), HoldSeat("b2"), LetGo("b1")):
        sold.when(command).then(Rejected("sold"))


def test_a_deadline_that_comes_late_means_nothing() -> None:
    HELD.when(BuySeat("b1")).after().when(EndHold(1)).then()
    HELD.when(LetGo("b1")).then(SeatFreed("b1"), Cancel("hold")).when(EndHold(1)).then()
    renewed = HELD.when(HoldSeat("b1")).then(SeatHeld("b1"), Deadline("hold", EndHold(2), after=300))
    renewed.when(EndHold(1)).then().when(EndHold(2)).then(SeatFreed("b1"))


def test_a_seat_is_offered_once_and_others_do_not_exist() -> None:
    given(seats).when(HoldSeat("b1")).then(Rejected("no_such_seat"))
    FREE.when(OfferSeat()).then()


@pytest.mark.parametrize("seconds", [0, -1, 901])
def test_a_hold_lasts_from_a_second_to_fifteen_minutes(seconds: int) -> None:
    FREE.when(HoldSeat("b1", seconds)).then(Rejected("bad_time"))
    FREE.when(HoldSeat("", 60)).then(Rejected("bad_booking"))

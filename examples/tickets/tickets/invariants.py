"""What must be true of the shop's tables together, once nothing is under way. `pipeline verify` judges it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import Invariant

Rows = Mapping[str, Mapping[str, Any]]


def sold_otherwise(rows: Rows) -> Iterator[str]:
    sold = {(key, seat.sold_to) for key, seat in rows["seats"].items() if seat.sold_to}
    booked = {(seat, key) for key, booking in rows["bookings"].items() for seat in booking.seats}
    for seat, booking in sorted(sold ^ booked):
        yield f"{seat}: sold to and booked by different bookings, one of them is {booking}"


def sold_twice(rows: Rows) -> Iterator[str]:
    booked = Counter(seat for booking in rows["bookings"].values() for seat in booking.seats)
    for seat, times in booked.items():
        if times > 1:
            yield f"{seat}: booked {times} times"


def wrong_maps(rows: Rows) -> Iterator[str]:
    for show, hall in rows["seat_map"].items():
        for name, shown in hall.seats.items():
            seat = rows["seats"][f"{show}:{name}"]
            status = "sold" if seat.sold_to else "held" if seat.held_by else "free"
            if status != shown:
                yield f"{show}:{name}: the map shows {shown}, and it is {status}"


invariants = [
    Invariant("every seat sold is in the booking it was sold to", ["seats", "bookings"], sold_otherwise),
    Invariant("no seat is sold twice", ["bookings"], sold_twice),
    Invariant("the seat map shows what the seats are", ["seats", "seat_map"], wrong_maps),
]

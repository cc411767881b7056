"""The bookings service: owns who has booked what, under a reference that no other booking has."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pipeline import Aggregate, Reaction, Rejected, Send, Service, Source, Unique

REFERENCE = re.compile(r"[A-Za-z0-9]{6}")

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenBooking:
    name: str
    reference: str  # six letters and digits, which the sender makes up; if they are taken, it tries others


@dataclass(frozen=True, slots=True)
class AddSeat:
    seat: str


Command = OpenBooking | AddSeat

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BookingOpened:
    name: str
    reference: str


@dataclass(frozen=True, slots=True)
class SeatAdded:
    seat: str


Event = BookingOpened | SeatAdded

# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Booking:
    name: str = ""
    reference: str = ""
    seats: tuple[str, ...] = ()


# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, booking: Booking) -> list[Event] | Rejected:
    match command:
        case OpenBooking() if booking.reference:
            return Rejected("already_open")
        case OpenBooking(name, reference):
            if not name or not REFERENCE.fullmatch(reference):
                return Rejected("bad_booking", {"needs": "a name, and a reference of six letters and digits"})
            return [BookingOpened(name, reference.upper())]
        case AddSeat(seat):  # sold already, so it is added, even if the booking was not opened
            return [] if seat in booking.seats else [SeatAdded(seat)]


def evolve(booking: Booking, event: Event) -> Booking:
    match event:
        case BookingOpened(name, reference):
            return replace(booking, name=name, reference=reference)
        case SeatAdded(seat):
            return replace(booking, seats=(*booking.seats, seat))


bookings = Aggregate(
    "bookings",
    command=Command,
    event=Event,
    initial=Booking(),
    decide=decide,
    evolve=evolve,
    unique=[Unique("booking_references", value=lambda booking: booking.reference or None)],
)

# --- what it follows: seats that are sold ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeatSold:
    booking: str


SEATS = Source("seats.event", SeatSold)


def follow_seats(seat: str, event: SeatSold) -> list[Send]:
    return [Send(event.booking, AddSeat(seat))]


bookings_follow_seats = Reaction("bookings_follow_seats", source=SEATS, react=follow_seats)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("bookings", aggregates=[bookings], reactions=[bookings_follow_seats])

"""The seats service: owns who has which seat. A seat is an aggregate of its own, with the key `<show>:<seat>`.

All commands for a seat are decided one after the other, so it is sold once, however many want it. A hold ends by a
deadline, and the seat is free again, unless it was bought before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline import Aggregate, Cancel, Deadline, Reaction, Rejected, Send, Service, Source

HOLD_S_MAX = 15 * 60

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OfferSeat:
    pass


@dataclass(frozen=True, slots=True)
class HoldSeat:
    booking: str
    seconds: int = 300


@dataclass(frozen=True, slots=True)
class BuySeat:
    booking: str


@dataclass(frozen=True, slots=True)
class LetGo:
    """The buyer does not want the seat any more."""

    booking: str


@dataclass(frozen=True, slots=True)
class EndHold:
    """The time is up: sent by the deadline, of which `hold` is the number."""

    hold: int


Command = OfferSeat | HoldSeat | BuySeat | LetGo | EndHold

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeatOffered:
    pass


@dataclass(frozen=True, slots=True)
class SeatHeld:
    booking: str


@dataclass(frozen=True, slots=True)
class SeatFreed:
    booking: str


@dataclass(frozen=True, slots=True)
class SeatSold:
    booking: str


Event = SeatOffered | SeatHeld | SeatFreed | SeatSold

# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seat:
    offered: bool = False
    held_by: str = ""
    sold_to: str = ""
    holds: int = 0  # so far; the last one has this number


# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, seat: Seat) -> list[Event | Deadline | Cancel] | Rejected:
    match command:
        case OfferSeat():
            return [] if seat.offered else [SeatOffered()]
        case _ if not seat.offered:
            return Rejected("no_such_seat")
        case EndHold(hold):
            # It may be on its way while the seat is bought, let go or held anew: then it means nothing any more.
            return [SeatFreed(seat.held_by)] if seat.held_by and hold == seat.holds else []
        case _ if seat.sold_to:
            return Rejected("sold")
        case _ if not 1 <= len(command.booking) <= 100:  # it becomes the key of a booking
            return Rejected("bad_booking")
        case HoldSeat(seconds=seconds) if not 1 <= seconds <= HOLD_S_MAX:
            return Rejected("bad_time")
        case HoldSeat(booking, seconds):
            if seat.held_by not in ("", booking):
                return Rejected("held")
            return [SeatHeld(booking), Deadline("hold", EndHold(seat.holds + 1), after=seconds)]
        case BuySeat(booking) | LetGo(booking) if booking != seat.held_by:
            return Rejected("not_held")
        case BuySeat(booking):
            return [SeatSold(booking), Cancel("hold")]
        case LetGo(booking):
            return [SeatFreed(booking), Cancel("hold")]


def evolve(seat: Seat, event: Event) -> Seat:
    match event:
        case SeatOffered():
            return replace(seat, offered=True)
        case SeatHeld(booking):
            return replace(seat, held_by=booking, holds=seat.holds + 1)
        case SeatFreed():
            return replace(seat, held_by="")
        case SeatSold(booking):
            return replace(seat, held_by="", sold_to=booking)


seats = Aggregate("seats", command=Command, event=Event, initial=Seat(), decide=decide, evolve=evolve)

# --- what it follows: shows, whose halls have seats -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShowPlanned:
    rows: int
    seats: int


SHOWS = Source("shows.event", ShowPlanned)


def follow_shows(show: str, event: ShowPlanned) -> Iterator[Send]:
    for row in range(event.rows):
        for number in range(1, event.seats + 1):
            yield Send(f"{show}:{chr(ord('A') + row)}{number}", OfferSeat())


seats_follow_shows = Reaction("seats_follow_shows", source=SHOWS, react=follow_shows)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("seats", aggregates=[seats], reactions=[seats_follow_shows])

"""The halls service: the seat map of each show as one row, so that one watch shows all seats as they change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from pipeline import Projection, Service, Source

Status = Literal["free", "held", "sold"]

# --- what it follows: seats ------------------------------------------------------------------------------------------


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


SEATS = Source("seats.event", SeatOffered | SeatHeld | SeatFreed | SeatSold)
STATUS: dict[type, Status] = {SeatOffered: "free", SeatHeld: "held", SeatFreed: "free", SeatSold: "sold"}

# --- the map of a show -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    seat: str
    status: Status


@dataclass(frozen=True, slots=True)
class SeatMap:
    free: int = 0
    held: int = 0
    sold: int = 0
    seats: dict[str, Status] = field(default_factory=dict)


def by_show(key: str, event: object) -> Iterator[tuple[str, Change]]:
    show, _, seat = key.rpartition(":")
    yield show, Change(seat, STATUS[type(event)])


def draw(row: SeatMap, change: Change) -> SeatMap:
    seats = row.seats | {change.seat: change.status}
    counted = list(seats.values())
    return SeatMap(counted.count("free"), counted.count("held"), counted.count("sold"), seats)


seat_map = Projection("seat_map", sources=[SEATS], route=by_show, by_key=Change, initial=SeatMap(), evolve=draw)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("halls", projections=[seat_map])

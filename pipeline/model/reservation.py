"""The reservation of a unique value: an aggregate that the engine adds to a service, one for each `Unique`."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.model.aggregate import Aggregate, Rejected
from pipeline.model.unique import Unique


@dataclass(frozen=True, slots=True)
class Reserve:
    owner: str  # id of the aggregate that wants the value


@dataclass(frozen=True, slots=True)
class Release:
    owner: str


@dataclass(frozen=True, slots=True)
class Reserved:
    owner: str


@dataclass(frozen=True, slots=True)
class Released:
    owner: str


ReservationCommand = Reserve | Release
ReservationEvent = Reserved | Released


@dataclass(frozen=True, slots=True)
class Reservation:
    owner: str | None


FREE = Reservation(None)


def decide_reservation(command: ReservationCommand, reservation: Reservation) -> list[ReservationEvent] | Rejected:
    """The first to reserve a value has it. Reserving it again, or releasing another's, changes nothing."""
    match command, reservation.owner:
        case Reserve(owner), None:
            return [Reserved(owner)]
        case Reserve(owner), other if owner != other:
            return Rejected("taken")
        case Release(owner), other if owner == other:
            return [Released(owner)]
    return []


def evolve_reservation(reservation: Reservation, event: ReservationEvent) -> Reservation:
    """The reservation after `event`."""
    match event:
        case Reserved(owner):
            return Reservation(owner)
        case Released():
            return FREE


def reservations(unique: Unique) -> Aggregate[ReservationCommand, ReservationEvent, Reservation]:
    """The aggregate that holds the reservations of `unique`, each under its `reservation_key`."""
    return Aggregate(
        unique.name,
        ReservationCommand,
        ReservationEvent,
        FREE,
        decide_reservation,
        evolve_reservation,
        idempotency=None,  # the engine sends each of its commands once, and at once
        deadlines=False,
    )

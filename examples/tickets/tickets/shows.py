"""The shows service: owns what is on, and in how large a hall."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline import Aggregate, CommandContext, Rejected, Service

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlanShow:
    title: str
    rows: int  # of seats, from A to at most Z
    seats: int  # in each row


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShowPlanned:
    title: str
    rows: int
    seats: int


# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Show:
    title: str = ""
    rows: int = 0
    seats: int = 0


NOTHING_ON = Show()

# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: PlanShow, show: Show, context: CommandContext) -> list[ShowPlanned] | Rejected:
    if show != NOTHING_ON:
        return Rejected("already_planned")
    if ":" in context.key or len(context.key) > 100:  # the key of a seat is <show>:<seat>
        return Rejected("bad_name")
    if not (command.title and 1 <= command.rows <= 26 and 1 <= command.seats <= 40):
        return Rejected("bad_hall")
    return [ShowPlanned(command.title, command.rows, command.seats)]


def evolve(_: Show, event: ShowPlanned) -> Show:
    return Show(event.title, event.rows, event.seats)


shows = Aggregate("shows", command=PlanShow, event=ShowPlanned, initial=NOTHING_ON, decide=decide, evolve=evolve)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("shows", aggregates=[shows])

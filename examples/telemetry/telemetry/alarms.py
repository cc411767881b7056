"""The alarms service: raises an alarm when a device breaks a limit, settles it when the device is back to normal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from pipeline import Aggregate, Projection, Reaction, Rejected, Send, Service, Source

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RaiseAlarm:
    site: str
    at: datetime
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class SettleAlarm:
    at: datetime


@dataclass(frozen=True, slots=True)
class Acknowledge:
    by: str


Command = RaiseAlarm | SettleAlarm | Acknowledge

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AlarmRaised:
    site: str
    at: datetime
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class AlarmAcknowledged:
    by: str


@dataclass(frozen=True, slots=True)
class AlarmSettled:
    at: datetime


Event = AlarmRaised | AlarmAcknowledged | AlarmSettled

# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alarm:
    status: Literal["settled", "raised", "acknowledged"] = "settled"
    times: int = 0  # that it was raised


# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, alarm: Alarm) -> list[Event] | Rejected:
    match command:
        case RaiseAlarm(site, at, value, limit):  # from low to high, the alarm stays the same
            return [AlarmRaised(site, at, value, limit)] if alarm.status == "settled" else []
        case SettleAlarm(at):
            return [] if alarm.status == "settled" else [AlarmSettled(at)]
        case Acknowledge(by):
            if not by or alarm.status == "settled":
                return Rejected("no_alarm" if by else "no_name")
            return [AlarmAcknowledged(by)] if alarm.status == "raised" else []


def evolve(alarm: Alarm, event: Event) -> Alarm:
    match event:
        case AlarmRaised():
            return Alarm("raised", alarm.times + 1)
        case AlarmAcknowledged():
            return replace(alarm, status="acknowledged")
        case AlarmSettled():
            return replace(alarm, status="settled")


alarms = Aggregate("alarms", command=Command, event=Event, initial=Alarm(), decide=decide, evolve=evolve)

# --- what it follows: limits that are broken, and devices that are back to normal -------------------------------------


@dataclass(frozen=True, slots=True)
class LimitBroken:
    site: str
    at: datetime
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class BackToNormal:
    at: datetime


READINGS = Source("readings.event", LimitBroken | BackToNormal)


def follow_readings(device: str, event: LimitBroken | BackToNormal) -> list[Send]:
    match event:
        case LimitBroken(site, at, value, limit):
            return [Send(device, RaiseAlarm(site, at, value, limit))]
        case BackToNormal(at):
            return [Send(device, SettleAlarm(at))]


alarms_follow_readings = Reaction("alarms_follow_readings", source=READINGS, react=follow_readings)

# --- alarms that are not settled, by site: a row is there as long as its alarm is -------------------------------------


@dataclass(frozen=True, slots=True)
class OpenAlarm:
    site: str = ""
    since: datetime = EPOCH
    value: float = 0.0
    limit: float = 0.0
    acknowledged_by: str | None = None


def show(row: OpenAlarm, event: Event) -> OpenAlarm | None:
    match event:
        case AlarmRaised(site, at, value, limit):
            return OpenAlarm(site, at, value, limit)
        case AlarmAcknowledged(by):
            return replace(row, acknowledged_by=by)
        case AlarmSettled():
            return None


open_alarms = Projection(
    "open_alarms", sources=[alarms.events], initial=OpenAlarm(), evolve=show, indexes={"site": lambda row: row.site}
)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("alarms", aggregates=[alarms], reactions=[alarms_follow_readings], projections=[open_alarms])

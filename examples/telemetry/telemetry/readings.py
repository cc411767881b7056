"""The readings service: judges what devices report by its own copy of their limits, and owns what each said last.

The copy answers while the devices service is away. It may lag behind it: a device that has just been registered may be
unknown for some milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from pipeline import Aggregate, CommandContext, Copy, Rejected, Replica, Service, Source

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AHEAD = timedelta(minutes=1)  # how far a device's clock may go ahead of the broker's
Verdict = Literal["normal", "low", "high"]

# --- what it follows: devices, each with its limits -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceRegistered:
    site: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LimitsChanged:
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Limits:
    site: str = ""
    low: float = 0.0
    high: float = 0.0


def follow(row: Limits, event: DeviceRegistered | LimitsChanged) -> Limits:
    match event:
        case DeviceRegistered(site, low, high):
            return Limits(site, low, high)
        case LimitsChanged(low, high):
            return replace(row, low=low, high=high)


DEVICES = Source("devices.event", DeviceRegistered | LimitsChanged)
device_limits = Replica("device_limits", source=DEVICES, initial=Limits(), evolve=follow)

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    at: datetime  # when it was measured, by the device's clock; it may come long after
    value: float


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    site: str
    at: datetime
    value: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class LimitBroken:
    site: str
    at: datetime
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class BackToNormal:
    at: datetime


Event = Measured | LimitBroken | BackToNormal

# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest reading by the device's own time, and how many there were."""

    at: datetime = EPOCH
    value: float = 0.0
    verdict: Verdict = "normal"
    readings: int = 0


# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Report, latest: Latest, limits: Copy[Limits], context: CommandContext) -> list[Event] | Rejected:
    device = limits.get(context.key)
    if device is None:
        return Rejected("unknown_device")
    if command.at > EPOCH + timedelta(milliseconds=context.time_ms) + AHEAD:
        return Rejected("not_yet", {"at": command.at.isoformat()})
    verdict = judge(command.value, device)
    events: list[Event] = [Measured(device.site, command.at, command.value, verdict)]
    if command.at < latest.at or verdict == latest.verdict:  # an old reading says nothing of now
        return events
    if verdict == "normal":
        return [*events, BackToNormal(command.at)]
    return [*events, LimitBroken(device.site, command.at, command.value, getattr(device, verdict))]


def judge(value: float, device: Limits) -> Verdict:
    return "low" if value < device.low else "high" if value > device.high else "normal"


def evolve(latest: Latest, event: Event) -> Latest:
    match event:
        case Measured(_, at, value, verdict) if at >= latest.at:
            return Latest(at, value, verdict, latest.readings + 1)
        case Measured():
            return replace(latest, readings=latest.readings + 1)
    return latest


readings = Aggregate(
    "readings",
    command=Report,
    event=Event,
    initial=Latest(),
    decide=decide,
    evolve=evolve,
    reads=device_limits,
    # Of many small records: no history by key beside the event log, no table of deadlines.
    history=False,
    deadlines=False,
)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("readings", aggregates=[readings], replicas=[device_limits])

"""The devices service: owns where each device is, and between which limits its readings are right."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline import Aggregate, Rejected, Service

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegisterDevice:
    site: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ChangeLimits:
    low: float
    high: float


Command = RegisterDevice | ChangeLimits

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceRegistered:
    site: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LimitsChanged:
    low: float
    high: float


Event = DeviceRegistered | LimitsChanged

# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Device:
    site: str = ""  # empty: it is not registered
    low: float = 0.0
    high: float = 0.0


# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, device: Device) -> list[Event] | Rejected:
    match command:
        case RegisterDevice() if device.site:
            return Rejected("already_registered")
        case ChangeLimits() if not device.site:
            return Rejected("unknown_device")
        case _ if not command.low < command.high:
            return Rejected("bad_limits")
        case RegisterDevice(site, low, high):
            return [DeviceRegistered(site, low, high)] if 1 <= len(site) <= 100 else Rejected("bad_site")
        case ChangeLimits(low, high):
            return [] if (low, high) == (device.low, device.high) else [LimitsChanged(low, high)]


def evolve(device: Device, event: Event) -> Device:
    match event:
        case DeviceRegistered(site, low, high):
            return Device(site, low, high)
        case LimitsChanged(low, high):
            return replace(device, low=low, high=high)


devices = Aggregate("devices", command=Command, event=Event, initial=Device(), decide=decide, evolve=evolve)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("devices", aggregates=[devices])

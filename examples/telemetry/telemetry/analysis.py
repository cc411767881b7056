"""The analysis service: readings in windows of the devices' own time. What comes too late is left out, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline import Projection, Service, Source, Tumbling, top

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE_MS = 60_000

# --- what it follows: readings ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    site: str
    at: datetime
    value: float


READINGS = Source("readings.event", Measured)


@dataclass(frozen=True, slots=True)
class Sample:
    device: str
    value: float


def by_site(device: str, event: Measured) -> Iterator[tuple[str, Sample]]:
    yield event.site, Sample(device, event.value)


def measured_ms(event: Measured) -> int:
    return (event.at - EPOCH) // timedelta(milliseconds=1)


# --- each site, minute by minute -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Minute:
    readings: int = 0
    total: float = 0.0
    least: float = 0.0
    most: float = 0.0


def add(row: Minute, sample: Sample) -> Minute:
    value = sample.value
    if not row.readings:
        return Minute(1, value, value, value)
    return Minute(row.readings + 1, row.total + value, min(row.least, value), max(row.most, value))


site_minutes = Projection(
    "site_minutes",
    sources=[READINGS],
    route=by_site,
    by_key=Sample,
    initial=Minute(),
    evolve=add,
    windows=Tumbling(MINUTE_MS, at=measured_ms, grace_ms=2 * MINUTE_MS),
)

# --- the ten hottest devices of each site, hour by hour ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hottest:
    devices: tuple[Sample, ...] = ()  # the highest value of each


def rank(row: Hottest, sample: Sample) -> Hottest:
    highest = max([sample.value, *(other.value for other in row.devices if other.device == sample.device)])
    best = Sample(sample.device, highest)  # so that no rank falls, and the list is exact
    return Hottest(top(row.devices, best, 10, of=lambda each: each.device, by=lambda each: each.value))


hottest = Projection(
    "hottest",
    sources=[READINGS],
    route=by_site,
    by_key=Sample,
    initial=Hottest(),
    evolve=rank,
    windows=Tumbling(60 * MINUTE_MS, at=measured_ms, grace_ms=2 * MINUTE_MS),
)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("analysis", projections=[site_minutes, hottest])

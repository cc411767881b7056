"""All services in memory: windows and late readings, and histories with every fault."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.testing import Simulation, TestDriver
from pipeline.topology import load
from telemetry.analysis import Hottest, Minute, Sample
from telemetry.devices import ChangeLimits, RegisterDevice
from telemetry.readings import Report

TELEMETRY = load("telemetry")
HISTORIES = 24
MINUTE = timedelta(minutes=1)


def test_readings_are_summed_minute_by_minute_and_late_ones_left_out() -> None:
    with TestDriver(TELEMETRY) as driver:
        for device in ("d1", "d2"):
            driver.send("devices", device, RegisterDevice("oslo", 0.0, 50.0))
        driver.advance(300)
        now = datetime.fromtimestamp(driver.now_ms / 1000, UTC).replace(second=0, microsecond=0)
        driver.send("readings", "d1", Report(now, 20.0), Report(now + timedelta(seconds=9), 30.0))
        driver.send("readings", "d2", Report(now - MINUTE, 40.0))
        driver.send("readings", "d2", Report(now - 5 * MINUTE, 49.0))  # its minute was over four minutes ago
        minutes = driver.rows("site_minutes")
        assert minutes == {
            f"oslo/{now - MINUTE:%Y-%m-%dT%H:%M:%SZ}": Minute(1, 40.0, 40.0, 40.0),
            f"oslo/{now:%Y-%m-%dT%H:%M:%SZ}": Minute(2, 50.0, 20.0, 30.0),
        }
        assert driver.rows("readings")["d2"].body.readings == 2, "it was measured all the same"
        hour = f"oslo/{now:%Y-%m-%dT%H:00:00Z}"
        assert driver.row("hottest", hour) == Hottest((Sample("d2", 49.0), Sample("d1", 30.0))), "its hour is not over"


def test_an_alarm_follows_its_device() -> None:
    with TestDriver(TELEMETRY) as driver:
        driver.send("devices", "d1", RegisterDevice("oslo", 0.0, 50.0))
        now = datetime.fromtimestamp(driver.now_ms / 1000, UTC)
        driver.send("readings", "d1", Report(now, 51.0))
        assert driver.rows("open_alarms")["d1"].limit == 50.0
        driver.send("devices", "d1", ChangeLimits(0.0, 60.0))
        driver.send("readings", "d1", Report(now, 51.0))
        assert driver.row("open_alarms", "d1") is None


def shift(rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    """What devices report in one history: in and out of their limits, in no order, some late."""
    began = datetime.fromtimestamp(1_700_000_000, UTC)  # when time begins in the simulated world
    devices = ["d1", "d2", "d3"]
    for device in devices[: rng.randrange(1, 4)]:
        yield "devices", device, RegisterDevice(rng.choice(("oslo", "rome")), 0.0, 50.0)
    for _ in range(rng.randrange(4, 16)):
        device = rng.choice(devices)
        if rng.random() < 0.1:
            yield "devices", device, ChangeLimits(0.0, rng.choice((30.0, 70.0)))
        else:
            at = began + timedelta(seconds=rng.randrange(60))
            yield "readings", device, Report(at, rng.choice((-5.0, 20.0, 20.0, 40.0, 60.0)))


def test_no_fault_counts_a_reading_twice_or_leaves_an_alarm() -> None:
    """Crashes, zombies, lost answers …: `pipeline verify` and the invariants judge each history at its end."""
    for seed in range(HISTORIES):
        Simulation(TELEMETRY, seed, commands=shift).check()

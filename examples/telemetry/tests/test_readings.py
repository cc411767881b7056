"""How a reading is judged, and what becomes of it. No broker, no waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pipeline import Rejected
from pipeline.testing import given
from telemetry.alarms import Acknowledge, AlarmAcknowledged, AlarmRaised, AlarmSettled, RaiseAlarm, SettleAlarm, alarms
from telemetry.analysis import Hottest, Sample, rank
from telemetry.devices import ChangeLimits, DeviceRegistered, LimitsChanged, RegisterDevice, devices
from telemetry.readings import (
    EPOCH,
    BackToNormal,
    Latest,
    LimitBroken,
    Limits,
    Measured,
    Report,
    device_limits,
    readings,
)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=10)
LIMITS = {"d1": Limits("oslo", 0.0, 50.0)}
NOON_MS = (NOON - EPOCH) // timedelta(milliseconds=1)
DEVICE = given(readings, key="d1", time_ms=NOON_MS).with_copy(device_limits, LIMITS)


def test_a_reading_is_judged_by_the_limits_of_its_device() -> None:
    DEVICE.when(Report(NOON, 20.0)).then(Measured("oslo", NOON, 20.0, "normal"))
    hot = DEVICE.when(Report(NOON, 51.5)).then(
        Measured("oslo", NOON, 51.5, "high"), LimitBroken("oslo", NOON, 51.5, 50.0)
    )
    still = hot.when(Report(LATER, 60.0)).then(Measured("oslo", LATER, 60.0, "high"))
    still.when(Report(LATER, 20.0)).then(Measured("oslo", LATER, 20.0, "normal"), BackToNormal(LATER))
    DEVICE.when(Report(NOON, -0.5)).then(Measured("oslo", NOON, -0.5, "low"), LimitBroken("oslo", NOON, -0.5, 0.0))


def test_a_reading_that_comes_late_is_measured_and_says_nothing_of_now() -> None:
    now = DEVICE.when(Report(LATER, 20.0)).after()
    late = now.when(Report(NOON, 99.0)).then(Measured("oslo", NOON, 99.0, "high"))
    late.has(Latest(LATER, 20.0, "normal", readings=2))


def test_a_reading_of_an_unknown_device_or_of_the_future_is_refused() -> None:
    given(readings, key="d2", time_ms=NOON_MS).when(Report(NOON, 1.0)).then(Rejected("unknown_device"))
    DEVICE.when(Report(NOON + timedelta(minutes=2), 1.0)).then(Rejected("not_yet"))


def test_limits_are_a_range() -> None:
    registered = given(devices).when(RegisterDevice("oslo", 0.0, 50.0)).then(DeviceRegistered("oslo", 0.0, 50.0))
    registered.when(ChangeLimits(10.0, 40.0)).then(LimitsChanged(10.0, 40.0))
    registered.when(ChangeLimits(50.0, 0.0)).then(Rejected("bad_limits"))
    registered.when(RegisterDevice("rome", 0.0, 1.0)).then(Rejected("already_registered"))
    given(devices).when(ChangeLimits(0.0, 1.0)).then(Rejected("unknown_device"))


def test_an_alarm_is_raised_once_until_it_is_settled() -> None:
    raised = given(alarms).when(RaiseAlarm("oslo", NOON, 51.5, 50.0)).then(AlarmRaised("oslo", NOON, 51.5, 50.0))
    raised.when(RaiseAlarm("oslo", LATER, -1.0, 0.0)).then()
    seen = raised.when(Acknowledge("eve")).then(AlarmAcknowledged("eve"))
    seen.when(Acknowledge("eve")).then()
    seen.when(SettleAlarm(LATER)).then(AlarmSettled(LATER)).when(Acknowledge("eve")).then(Rejected("no_alarm"))


def test_the_hottest_are_listed_by_their_highest_value_each_once() -> None:
    row = Hottest()
    for number in range(12):
        row = rank(row, Sample(f"d{number}", float(number)))
    row = rank(row, Sample("d11", 3.0))
    assert [sample.device for sample in row.devices] == [f"d{number}" for number in range(11, 1, -1)]
    assert row.devices[0] == Sample("d11", 11.0)

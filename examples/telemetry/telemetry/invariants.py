"""What must be true of several tables together, once nothing is under way. `pipeline verify` judges it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import Invariant

Rows = Mapping[str, Mapping[str, Any]]


def wrong_alarms(rows: Rows) -> Iterator[str]:
    broken = {key for key, latest in rows["readings"].items() if latest.verdict != "normal"}
    raised = {key for key, alarm in rows["alarms"].items() if alarm.status != "settled"}
    for device in sorted(broken ^ raised):
        yield f"{device}: {'no alarm, and' if device in broken else 'an alarm, and no'} limit is broken"
    for device in sorted(raised ^ rows["open_alarms"].keys()):
        yield f"{device}: the list of open alarms is wrong"


def miscounted(rows: Rows) -> Iterator[str]:
    counted = sum(minute.readings for minute in rows["site_minutes"].values())
    measured = sum(latest.readings for latest in rows["readings"].values())
    if counted > measured:  # fewer are counted where some came too late
        yield f"all sites: {counted} readings in minutes, of {measured}"


invariants = [
    Invariant("an alarm is open while its device breaks a limit", ["readings", "alarms", "open_alarms"], wrong_alarms),
    Invariant("no reading is in two minutes", ["readings", "site_minutes"], miscounted),
]

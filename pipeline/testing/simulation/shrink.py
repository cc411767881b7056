"""Shortens a failing schedule: drops whatever it does not need in order to fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pipeline.testing.simulation.schedule import Fault, Operation, Schedule, Sent

RUNS_MAX = 600
Fails = Callable[[Schedule], bool]


def shrink(schedule: Schedule, fails: Fails, runs_max: int = RUNS_MAX) -> Schedule:
    """Return a schedule that still fails and has nothing to drop, or what is reached after `runs_max` runs."""
    runs = 0

    def still(candidate: Schedule) -> bool:
        nonlocal runs
        runs += 1
        return runs <= runs_max and fails(candidate)

    while True:
        before = schedule
        for field in ("switches", "faults", "operations", "commands"):
            schedule = _without(schedule, field, still)
        schedule = _simpler(schedule, still)
        if schedule == before or runs >= runs_max:
            return schedule


def _without(schedule: Schedule, field: str, still: Fails) -> Schedule:
    """Drop halves, quarters … and at last single items of a field."""
    size = len(getattr(schedule, field))
    while size:
        at = 0
        while at < len(kept := getattr(schedule, field)):
            candidate = replace(schedule, **{field: kept[:at] + kept[at + size :]})
            if still(candidate):
                schedule = candidate
            else:
                at += size
        size //= 2
    return schedule


def _simpler(schedule: Schedule, still: Fails) -> Schedule:
    """Try fewer workers, one partition, no standbys, the classic protocol."""
    simpler: Sequence[dict[str, Any]] = ({"workers": 1}, {"workers": 2}, {"partitions": 1}, {"standby": False})
    for change in (*simpler, {"protocol": "classic"}):
        candidate = replace(schedule, **change)
        fewer = candidate.workers <= schedule.workers
        if fewer and candidate != schedule and still(candidate):
            schedule = candidate
    return schedule


def regression_test(name: str, schedule: Schedule) -> str:
    """Return the source of a test that plays the schedule."""
    lines = [f"def test_{name}() -> None:", "    schedule = Schedule("]
    for field in ("commands", "faults", "operations"):
        if parts := getattr(schedule, field):
            lines += [f"        {field}=(", *(f"            {_call(part)}," for part in parts), "        ),"]
    lines += [f"        switches={schedule.switches!r},"] if schedule.switches else []
    usual = Schedule()
    for field in ("workers", "partitions", "standby", "protocol", "mended_ms", "cleared"):
        if (value := getattr(schedule, field)) != getattr(usual, field):
            lines.append(f"        {field}={value!r},")
    lines += ["    )", "    assert Simulation(TOPOLOGY, schedule=schedule).run().findings == []", ""]
    return "\n".join(lines)


def _call(part: Sent | Fault | Operation) -> str:
    return f"{type(part).__name__}({', '.join(repr(value) for value in part)})"

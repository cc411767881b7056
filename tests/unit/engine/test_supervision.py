"""What a driver of lanes is told to do next, by what its steps come to."""

from __future__ import annotations

import logging
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.drive import drive
from pipeline.engine.loop.supervision import (
    AWAY_S,
    CALM_S,
    FRUITLESS_MAX,
    REOPEN_S,
    Call,
    Now,
    Pause,
    Step,
    Turn,
    supervise,
)
from pipeline.engine.stats import LaneStats
from pipeline.errors import BrokerUnreachable, FoldError, LaneFatal, OutOfDescriptors


class Driver:
    """Does the steps by a script: an error is raised, a number of seconds passes, `None` stops the service."""

    def __init__(self, **script: list[Exception | float | None]) -> None:
        self.script, self.stats = script, LaneStats()
        self.done: list[str] = []
        self.pauses: list[float] = []
        self.now_s, self.stopping, self.made = 0.0, False, 0

    def make(self) -> Any:
        self.act("make")
        return self.lane()

    def lane(self) -> Any:
        self.made += 1
        acts = {what: partial(self._act, what, str(self.made)) for what in ("open", "close", "abandon")}
        return SimpleNamespace(name=str(self.made), **acts)

    def _act(self, what: str, lane: str, *_: object) -> None:
        self.act(what, lane)

    def act(self, what: str, lane: str = "") -> None:
        self.done.append(f"{what} {lane}".strip())
        planned = self.script.get(what)
        match planned.pop(0) if planned else 0.0:
            case None:
                self.stopping = True
            case Exception() as error:
                raise error
            case float(seconds):
                self.now_s += seconds

    def do(self, step: Step) -> Any:
        match step:
            case Call(call):
                return call()
            case Turn(lane):
                self.act("turn", lane.name)  # type: ignore[attr-defined]
            case Pause(seconds):
                self.pauses.append(seconds)
                self.act("pause")
        return Now(self.now_s, self.stopping)

    def run(self, *, made: bool = False) -> Driver:
        drive(supervise("tills", self.stats, self.make, self.lane() if made else None), self.do)
        return self


def test_a_lane_turns_until_the_service_stops_and_is_closed() -> None:
    assert Driver(turn=[0.0, None]).run().done == ["make", "open 1", "turn 1", "turn 1", "close 1"]
    assert Driver(turn=[None]).run(made=True).done == ["open 1", "turn 1", "close 1"]


def test_a_lane_that_cannot_go_on_is_abandoned_and_another_is_made() -> None:
    driver = Driver(turn=[LaneFatal("fenced"), None]).run()
    assert driver.done == ["make", "open 1", "turn 1", "abandon 1", "pause", "make", "open 2", "turn 2", "close 2"]
    assert (driver.pauses, driver.stats.reopened) == ([REOPEN_S[0]], 1)


def test_a_lane_that_could_not_be_made_is_not_abandoned() -> None:
    driver = Driver(make=[BrokerUnreachable("away"), BrokerUnreachable("away")], turn=[None]).run()
    assert driver.done == ["make", "pause", "make", "pause", "make", "open 1", "turn 1", "close 1"]
    assert driver.stats.reopened == 1


def test_what_another_lane_does_not_cure_is_raised() -> None:
    driver = Driver(turn=[FoldError("raises")])
    with pytest.raises(FoldError, match="raises"):
        driver.run()
    assert driver.done[-1] == "abandon 1"


@pytest.mark.parametrize("error", [LaneFatal, OutOfDescriptors])  # a lane that is closed gives its files back
def test_another_lane_is_made_some_times(error: type[Exception]) -> None:
    driver = Driver(open=[error("again") for _ in range(FRUITLESS_MAX + 1)])
    with pytest.raises(error, match="again"):
        driver.run()
    assert driver.made == FRUITLESS_MAX + 1
    assert driver.pauses[:5] == list(REOPEN_S)


def test_a_broker_that_is_away_is_waited_for_however_long() -> None:
    driver = Driver(make=[BrokerUnreachable("away") for _ in range(3 * FRUITLESS_MAX)], turn=[None]).run()
    assert driver.pauses == [AWAY_S] * (3 * FRUITLESS_MAX)


def test_a_lane_that_lived_for_long_was_opened_rightly() -> None:
    turns: list[Exception | float | None] = []
    for _ in range(FRUITLESS_MAX + 1):
        turns += [0.0, CALM_S + 1, LaneFatal("again")]
    driver = Driver(turn=[*turns, None]).run()
    assert driver.pauses == [REOPEN_S[0]] * (FRUITLESS_MAX + 1)


def test_an_error_on_the_way_out_is_logged_alone(caplog: pytest.LogCaptureFixture) -> None:
    Driver(turn=[LaneFatal("fenced"), None], abandon=[ValueError("odd")], close=[LaneFatal("late")]).run()
    assert [
        record.getMessage().partition(" (")[0] for record in caplog.records if record.levelno >= logging.WARNING
    ] == [
        "tills: the failed lane could not be closed cleanly",
        "tills: fenced; going on from the last commit in 0.1 s",
        "tills: stopped without a last commit",
    ]


def test_a_service_that_stops_in_a_pause_makes_no_other_lane() -> None:
    driver = Driver(turn=[LaneFatal("fenced")], pause=[None]).run()
    assert driver.done[-2:] == ["abandon 1", "pause"]

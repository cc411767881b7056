"""Too much that raises: all of it is parked and committed, then the service is held until somebody resumes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pipeline import Service
from pipeline.engine.parking.error_rate import ErrorRate
from pipeline.engine.parking.parking_log import Audit, key_text
from pipeline.engine.ports import TP
from pipeline.engine.stats import LaneStats
from pipeline.errors import TopologyError
from pipeline.testing import TestDriver
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.verify import judge
from tests.simulation.worlds import tills as t

AUDIT = Audit("anna", "a test")


class Clock:
    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def time_ms(self) -> int:
        return int(self.now_s * 1000)


class Rate:
    """An ErrorRate, and the records that it is told of."""

    def __init__(self, share: float = 0.01, at_least: int = 10) -> None:
        self.clock, self.stats, self.offset = Clock(), LaneStats(), 0
        self.made = ErrorRate("s", self.clock, self.stats, share, at_least)

    def fold(self, folded: int, raised: int, *, commit: bool = True) -> bool:
        """Whether the service is held then."""
        for n in range(raised):
            self.made.record(TP("t", 0), self.offset + n, ValueError("no"))
        self.stats.records += folded
        if commit:
            self.offset += folded
            self.made.mark_committed()
        else:
            self.made.roll_back()
        return bool(self.stats.held)


@pytest.mark.parametrize(
    ("folded", "raised", "held"), [(9, 9, False), (10, 10, True), (1000, 10, False), (999, 10, True)]
)
def test_more_than_the_share_of_at_least_so_many_holds_the_service(folded: int, raised: int, *, held: bool) -> None:
    rate = Rate()
    assert rate.fold(folded, raised) == held
    if held:
        why = rate.stats.held_why
        assert f"{raised} of the {folded} records" in why
        for word in ("t-0 offset 9", "ValueError: no", "pipeline resume s", "parked redrive --service s"):
            assert word in why


def test_a_share_of_one_never_does() -> None:
    assert not Rate(share=1.0).fold(1000, 1000)


def test_what_is_folded_again_after_an_abort_counts_once() -> None:
    rate = Rate()
    for _ in range(20):
        assert not rate.fold(900, 9, commit=False), "nothing of it is committed"
    assert not rate.fold(900, 9)
    assert rate.fold(5, 1), "10 of 905, and not of 18,905"


def test_what_has_raised_more_than_a_minute_ago_does_not_count_where_enough_came_since() -> None:
    rate = Rate()
    rate.fold(9, 9)
    rate.clock.now_s = 61.0
    assert not rate.fold(1000, 5)


@pytest.mark.parametrize("every_s", [0.3, 3, 30, 300])
def test_a_trickle_of_which_all_raises_is_found_however_slow(every_s: float) -> None:
    rate, times = Rate(), 0
    while not rate.fold(1, 1):
        rate.clock.now_s += every_s
        times += 1
        assert times < 11


def test_one_bad_record_an_hour_holds_nobody() -> None:
    rate = Rate()
    for _ in range(100):
        assert not rate.fold(1, 1)
        rate.clock.now_s += 3_601


def test_what_is_kept_is_bounded() -> None:
    rate = Rate(share=1.0)
    for _ in range(20_000):
        rate.clock.now_s += 0.4
        rate.fold(1, 1)
    assert len(rate.made._window) < 3_700


@pytest.mark.parametrize("share", [-0.1, 1.1, "a tenth", None])
def test_a_share_is_between_nothing_and_all(share: Any) -> None:
    with pytest.raises(TopologyError, match=r"'s': raising_share=.* is not between 0 and 1"):
        Service("s", raising_share=share)


def test_at_least_one_record() -> None:
    with pytest.raises(TopologyError, match="raising_at_least=0 is not a number"):
        Service("s", raising_at_least=0)


# --- a service that is held -------------------------------------------------------------------------------------------


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    """The tills, whose code raises on a Take of 6, in two partitions."""
    t.Code.mend(False)
    t.Code.slow = 0
    try:
        tills = replace(t.TOPOLOGY.services["tills"], raising_share=0.2, raising_at_least=5)
        topology = replace(t.TOPOLOGY, services={**t.TOPOLOGY.services, "tills": tills})
        with TestDriver(topology, partitions=2, park=True) as driver:
            driver._world.mend = t.Code.mend  # so that its judge knows what may have raised
            yield driver
    finally:
        t.Code.mend(True)


def worker(driver: TestDriver, service: str = "tills") -> Any:
    return next(w for w in driver._world.workers if w.plan.service.name == service)


def poison(driver: TestDriver, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        driver.send_unseen("tills", f"bad-{n}", t.Take(6))
    driver.send_unseen("tills", "good", t.Take(1))
    driver.advance(3)


def taken(driver: TestDriver) -> list[int]:
    return sorted(m.body.amount for _, m in driver.records("tills.event") if isinstance(m.body, t.Taken))


def judged(driver: TestDriver) -> list[Any]:
    return judge(SimulatedHistory(driver._world), t.TOPOLOGY).findings


def test_fewer_than_the_floor_are_parked_and_the_service_goes_on(driver: TestDriver) -> None:
    poison(driver, 4)
    assert (len(driver.parked()), taken(driver), worker(driver).stats.held) == (4, [1], 0)


def test_at_the_floor_all_is_parked_and_committed_and_nothing_more_is_folded(driver: TestDriver) -> None:
    poison(driver, 30)
    assert len(driver.parked()) == 30, "all that was read by then"
    assert worker(driver).stats.held == 1
    assert "30 of the 31 records" in worker(driver).stats.held_why
    driver.send("tills", "good", t.Take(2))
    driver.send("tills", "other", t.Take(3))
    assert taken(driver) == [1]
    assert worker(driver).is_member, "it stays in the group"
    assert not worker(driver, "books").stats.held, "the neighbour goes on"
    assert driver.rows("tills").keys() == {"good"}, "reads are answered"
    assert judged(driver) == []


def test_operators_work_on_what_is_parked_meanwhile(driver: TestDriver) -> None:
    poison(driver, 6)
    driver.discard()
    assert driver.parked() == []
    assert worker(driver).stats.held == 1


def test_redriven_in_a_held_service_and_resumed_it_has_lost_nothing(driver: TestDriver) -> None:
    poison(driver, 6)
    driver.send("tills", "good", t.Take(2))
    t.Code.mend(True)
    driver.redrive()
    assert (driver.parked(), taken(driver)) == ([], [1, *[6] * 6])
    driver.resume()
    driver.send("tills", "good", t.Take(3))
    assert taken(driver) == [1, 2, 3, *[6] * 6]
    assert (worker(driver).stats.held, worker(driver).stats.held_why) == (0, "")
    assert judged(driver) == []


def test_a_resume_is_audited(driver: TestDriver) -> None:
    poison(driver, 6)
    driver.resume()
    headers = [
        {name: value for name, value in record.headers() if name.startswith("parked-")}
        for log in driver._world.kafka.topics["tills.parked"].logs
        for record in log.archive
        if record.decided
    ]
    (resumed,) = [each for each in headers if each["parked-action"] == b"resumed"]
    assert resumed == {"parked-action": b"resumed", "parked-by": b"operator", "parked-why": b"at 0 ms"}
    assert worker(driver).lane.resume(AUDIT) == (False, 0, 0, None), "it goes on already"


def test_resumed_with_the_code_as_it_is_it_is_held_again_after_as_many(driver: TestDriver) -> None:
    poison(driver, 6)
    driver.resume()
    poison(driver, 4, first=100)
    assert worker(driver).stats.held == 0
    poison(driver, 4, first=200)
    assert (worker(driver).stats.held, len(driver.parked())) == (1, 14)


def test_what_came_one_by_one_holds_it_too(driver: TestDriver) -> None:
    for n in range(5):
        assert not worker(driver).stats.held
        poison(driver, 1, first=n)
        driver.advance(20)
    assert (worker(driver).stats.held, len(driver.parked())) == (1, 5)


def test_nothing_falls_due_in_a_held_service(driver: TestDriver) -> None:
    driver.send_unseen("tills", "good", t.Take(9), at_ms=driver.now_ms + 30_000)
    poison(driver, 6)
    driver.advance(60)
    assert 9 not in taken(driver)
    driver.resume()
    driver.advance(5)
    assert 9 in taken(driver)


def test_a_lane_that_is_opened_again_is_held_still_and_a_new_process_is_not(driver: TestDriver) -> None:
    poison(driver, 6)
    driver.send("tills", "good", t.Take(2))
    driver._world.kafka.transactions.fence(worker(driver).name)
    worker(driver).consumer.expel()
    driver.discard()
    driver.advance(30)
    assert worker(driver).stats.held == 1
    assert taken(driver) == [1]
    worker(driver).stopping = True
    driver._world.make_ready(worker(driver))
    driver.advance(30)
    assert worker(driver).stats.held == 0
    assert taken(driver) == [1, 2]
    assert judged(driver) == []


def test_partitions_that_come_to_a_held_lane_wait_there(driver: TestDriver) -> None:
    poison(driver, 6)
    driver._world.kafka.group("tills").rebalance()
    driver.send("tills", "good", t.Take(2))
    driver.advance(30)
    assert (worker(driver).stats.held, taken(driver)) == (1, [1])
    driver.resume()
    assert taken(driver) == [1, 2]


# --- odd ways to raise ------------------------------------------------------------------------------------------------


class Silent(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class Surrogate(Exception):
    def __str__(self) -> str:
        return "\ud800 and much else " + "x" * 100_000


def deep() -> None:
    deep()


def leave() -> None:
    raise SystemExit(3)


def silent() -> None:
    raise Silent


def odd() -> None:
    raise Surrogate


def group() -> None:
    raise ExceptionGroup("several", [Silent(), ValueError("no")])


@pytest.mark.parametrize("way", [deep, leave, silent, odd, group])
def test_however_it_raises_it_is_parked_and_holds_the_service(way: Any) -> None:
    def decide(command: Any, till: t.Till) -> Any:
        if command == t.Take(6):
            way()
        return t.decide_till(command, till)

    tills = replace(t.TOPOLOGY.services["tills"].aggregates[0], decide=decide)
    service = replace(t.TOPOLOGY.services["tills"], aggregates=[tills], raising_at_least=3)
    topology = replace(t.TOPOLOGY, services={**t.TOPOLOGY.services, "tills": service})
    with TestDriver(topology, partitions=1, park=True) as driver:
        poison(driver, 3)
        assert len(driver.parked()) == 3
        assert worker(driver).stats.held
        driver.redrive()
        assert len(driver.parked()) == 3
        driver.discard()
        driver.resume()
        driver.send("tills", "good", t.Take(2))
        assert taken(driver) == [1, 2]


def test_a_warning_of_a_parked_record_says_where_and_how_to_see_more(caplog: pytest.LogCaptureFixture) -> None:
    try:
        json.loads("{")  # raises inside of a library, called by code of the author's
    except ValueError as error:
        Rate().made.warn(TP("t", 0), 7, b"anna b", "ValueError: no", error)
        line = error.__traceback__.tb_lineno  # type: ignore[union-attr]
    assert caplog.messages == [
        f"s parks t-0 offset 7, and with it the key anna b: ValueError: no, raised at {__file__}:{line}; more with: "
        "pipeline parked show --key 'anna b'"
    ]


def test_a_key_that_is_no_text_of_one_line_is_shown_in_base64() -> None:
    assert [key_text(key) for key in (b"anna", b"\xff", b"a\nb")] == ["anna", "/w==", "YQpi"]

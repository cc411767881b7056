"""The lag of a worker's partitions: what is estimated while it moves, what is read once where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from pipeline.engine.places import Place, Restore, WaitsFor
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable
from pipeline.worker.metrics.lag import STALE_S, LagCollector
from pipeline.worker.metrics.lag_watch import Lag, LagWatch

TILL, OTHER = TP("tills.command", 0), TP("tills.command", 1)
START_MS = 1_000_000


class Clock:
    """A clock that is set by hand; time 0 s is START_MS."""

    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def time_ms(self) -> int:
        return START_MS + int(1000 * self.now_s)


class World:
    """A lane's places and the logs behind them."""

    def __init__(self) -> None:
        self.clock, self.places = Clock(), dict[TP, Place]()
        self.appended: dict[TP, list[int | None]] = {TILL: [], OTHER: []}  # when each record was; None: a marker
        self.first: dict[TP, int] = {TILL: 0, OTHER: 0}
        self.reads: list[dict[TP, int]] = []
        self.silent: Iterable[TP] = ()
        self.watch = LagWatch(lambda: {"tills": self}, self, self.clock)  # type: ignore[dict-item]

    def append(self, *seconds_ago: float | None, tp: TP = TILL) -> None:
        now_ms = self.clock.time_ms()
        self.appended[tp] += [None if ago is None else now_ms - int(1000 * ago) for ago in seconds_ago]

    def stand(self, offset: int | None, waits_for: WaitsFor = WaitsFor.NOTHING, tp: TP = TILL, **more: Any) -> None:
        """The lane has committed up to `offset`."""
        folded = [ms for ms in self.appended[tp][: offset or 0] if ms is not None]
        fields: dict[str, Any] = {"known": True, "appended_ms": folded[-1] if folded else 0} | more
        self.places[tp] = Place(offset=offset, waits_for=waits_for, **fields)

    def look(self, after_s: float = 2.0) -> Lag:
        """What is measured some seconds later."""
        self.clock.now_s += after_s
        self.watch.look()
        return self.watch.lags[0]

    # --- of a lane ---

    def all(self) -> dict[TP, Place]:
        return dict(self.places)

    # --- of the broker ---

    def ends(self, partitions: Sequence[TP]) -> dict[TP, int]:
        return {tp: self.first[tp] + len(self.appended[tp]) for tp in partitions}

    def firsts(self, partitions: Sequence[TP]) -> dict[TP, int]:
        return {tp: self.first[tp] for tp in partitions}

    def appended_ms(self, starts: Mapping[TP, int]) -> dict[TP, int | None]:
        self.reads.append(dict(starts))
        found = {tp: self.appended[tp][start - self.first[tp] :] for tp, start in starts.items()}
        return {
            tp: next((ms for ms in times if ms is not None), None)
            for tp, times in found.items()
            if tp not in self.silent
        }


@pytest.fixture
def world() -> World:
    return World()


def test_a_partition_without_records_has_no_lag(world: World) -> None:
    world.stand(None)
    assert world.look()[2:5] == (0, 0, WaitsFor.NOTHING)
    assert world.reads == []


def test_a_backlog_that_is_folded_is_as_old_as_what_is_folded_and_nothing_is_read(world: World) -> None:
    world.append(*[100 - n for n in range(100)])
    world.stand(10)
    assert world.look(0)[2:4] == (90, 91.0)
    world.stand(50)
    assert world.look()[2:4] == (50, 53.0)
    assert world.reads == []


def test_a_record_that_comes_after_an_hour_of_quiet_is_not_an_hour_old(world: World) -> None:
    world.append(1)
    world.stand(1)
    world.look()
    world.clock.now_s += 3600
    world.look()
    world.append(0)
    assert world.look().seconds == 2.0, "since it was last seen without lag"
    assert world.reads == []


def test_where_a_partition_stands_its_next_record_is_read_once(world: World) -> None:
    world.append(1, 50)
    world.stand(1)
    world.look(0)
    assert world.look()[2:4] == (1, 52.0)
    assert world.look()[2:4] == (1, 54.0)
    assert world.reads == [{TILL: 1}]
    world.stand(2)
    assert world.look()[2:4] == (0, 0)


@pytest.mark.parametrize("cause", [cause for cause in WaitsFor if cause not in (WaitsFor.NOTHING, WaitsFor.PARKED_KEY)])
def test_where_it_waits_for_something_its_next_record_is_read_at_once(world: World, cause: WaitsFor) -> None:
    world.append(1, 50)
    world.stand(1, cause)
    assert world.look(0)[2:5] == (1, 50.0, cause)


def test_the_log_begins_where_retention_has_left_it(world: World) -> None:
    world.append(9, 8)
    world.first[TILL] = 100
    world.stand(None)
    assert world.look(0)[2:4] == (2, 9.0)
    assert world.reads == [{TILL: 100}]


def test_transaction_markers_alone_are_records_that_have_no_age(world: World) -> None:
    world.append(50, None, None)
    world.stand(1, WaitsFor.HELD)
    assert world.look(0)[2:4] == (2, 0)
    assert world.look()[2:4] == (2, 0)
    assert len(world.reads) == 1
    world.append(0)
    assert world.look()[2:4] == (3, 2.0), "the record behind them is found"
    assert world.look()[2:4] == (3, 4.0)
    assert len(world.reads) == 2


def test_before_it_is_known_what_was_committed_there_is_no_lag_to_tell(world: World) -> None:
    world.append(50)
    world.stand(None, WaitsFor.RESTORE, known=False, restore=Restore(1, 3))
    assert world.look() == Lag("tills", TILL, None, None, WaitsFor.RESTORE, Restore(1, 3))
    assert world.watch.as_json() == {
        "tills": {
            "tills.command-0": {
                "records": None,
                "seconds": None,
                "waits_for": "restore",
                "restore": {"done": 1, "target": 3},
            }
        }
    }


def test_a_record_that_cannot_be_read_in_time_has_no_known_age(world: World) -> None:
    world.append(50)
    world.stand(0, WaitsFor.RESTORE)
    world.silent = [TILL]
    assert world.look()[2:4] == (1, None)
    world.silent = []
    assert world.look()[2:4] == (1, 54.0)


def test_partitions_that_are_given_up_are_forgotten(world: World) -> None:
    world.append(50)
    world.stand(0)
    world.append(tp=OTHER)
    world.stand(0, tp=OTHER)
    world.look()
    assert len(world.watch.lags) == 2
    del world.places[TILL]
    assert world.look().tp == OTHER
    assert len(world.watch.lags) == len(world.watch._seen) == 1


def test_two_services_may_stand_at_different_offsets_of_a_partition() -> None:
    world, behind = World(), World()
    world.append(9, 8, 7)
    world.stand(2, WaitsFor.HELD)
    behind.appended = world.appended
    behind.stand(0, WaitsFor.HELD)
    watch = LagWatch(lambda: {"a": world, "b": behind}, world, world.clock)  # type: ignore[dict-item]
    watch.look()
    assert [(lag.service, lag.records, lag.seconds) for lag in watch.lags] == [("a", 1, 7.0), ("b", 3, 9.0)]


def test_what_was_measured_long_ago_is_no_longer_shown(world: World) -> None:
    world.stand(0)
    world.look()

    def samples() -> dict[str, list[float]]:
        return {family.name: [each.value for each in family.samples] for family in LagCollector(world.watch).collect()}

    assert samples()["pipeline_lag_records"] == [0]
    assert samples()["pipeline_lag_age_seconds"] == [0]
    world.clock.now_s += STALE_S
    assert samples()["pipeline_lag_records"] == samples()["pipeline_partition_info"] == []
    assert samples()["pipeline_lag_age_seconds"] == [STALE_S]


def test_a_broker_that_is_away_leaves_what_was_measured_before(world: World) -> None:
    world.append(5)
    world.stand(0)
    before = world.look()

    def ends(partitions: Sequence[TP]) -> dict[TP, int]:
        raise BrokerUnreachable("away")

    world.ends = ends  # type: ignore[method-assign]
    with pytest.raises(BrokerUnreachable):
        world.look()
    assert world.watch.lags == [before]
    assert world.watch.age_s() == 2.0

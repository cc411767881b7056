"""Faults in what the broker answers: transactions refused, outcomes unknown, producers ended for good."""

from __future__ import annotations

import functools

from tests.faults.fleet import Process
from tests.faults.processes import LANES
from tests.faults.round import Round

REFUSED = "producer.commit:before%0.05=abort; producer.flush:after%0.03=abort; producer.produce_last:before%0.01=abort"
ENDS = ("producer.commit:after@{}=unknown", "producer.commit:before@{}=fatal", "producer.flush:after@{}=fatal")


def aborts(round_: Round, times: int) -> None:
    """Transactions are refused at chance; the worker folds them again and lives on."""
    plan = f"seed={round_.rng.randint(1, 10**6)}; {REFUSED}"
    round_.schedule([plan])
    round_.begin(plan, plan)
    fleet = round_.fleet
    for worker in fleet.workers:
        worker.expected_to_die = False
    fleet.until(f"{times} aborts", lambda: sum(len(worker.fired()) for worker in fleet.workers) >= times)
    moments = []
    for worker in fleet.workers:
        fired = worker.fired()
        seen = functools.partial(_has_aborted, worker, len(fired))
        fleet.until("its lanes have seen them", seen)
        moments += [at for at, _ in fired]
    round_.injected_all(moments)
    assert not fleet.deaths, fleet.deaths


def _has_aborted(worker: Process, times: int) -> bool:
    return sum(each["aborts"] for each in (worker.status() or {}).values()) >= times


def unknown_outcomes(round_: Round, times: int) -> None:
    """A commit whose success the lane never hears of; producers that cannot go on, before and after it is sent."""
    steps = []
    for n in range(times):
        steps.append(f"{round_.rng.choice(LANES)}/{ENDS[n % len(ENDS)].format(round_.rng.randint(2, 15))}")
    round_.schedule(steps)
    round_.begin("", "")
    fleet = round_.fleet
    for plan in steps:
        fleet.until("all are there", lambda: all(worker.alive for worker in fleet.workers))
        replaced = fleet.workers[0]
        fleet.release(replaced)
        replaced.stop()
        worker = fleet.start(plan)
        fleet.until(f"it happens: {plan}", worker.fired)
        [(at, what)] = worker.fired()
        assert what == plan
        round_.injected(at)

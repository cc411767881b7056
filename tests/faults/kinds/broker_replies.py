"""Faults in what the broker answers: transactions refused, outcomes unknown, producers ended for good."""

from __future__ import annotations

from tests.faults.harness.fleet import Process
from tests.faults.kinds.processes import LANES
from tests.faults.round import Round

REFUSED = "producer.commit:before%0.05=abort; producer.flush:after%0.03=abort; producer.produce_last:before%0.01=abort"
ENDS = ("producer.commit:after@{}=unknown", "producer.commit:before@{}=fatal", "producer.flush:after@{}=fatal")


def aborts(round_: Round, times: int) -> None:
    """Transactions are refused at chance; the worker folds them again and lives on."""
    plan = f"seed={round_.rng.randint(1, 10**6)}; {REFUSED}"
    round_.schedule([plan])
    fleet = round_.fleet
    fleet.replacement = plan
    round_.begin(plan, plan)

    def fired() -> list[tuple[float, str]]:
        return [each for worker in fleet.released + fleet.workers if worker.plan == plan for each in worker.fired()]

    fleet.until(f"{times} aborts", lambda: len(fired()) >= times)
    fleet.replacement = ""
    fleet.until("a lane has seen one", lambda: any(_has_aborted(worker) for worker in fleet.workers))
    moments = [at for at, _ in fired()]
    round_.begin("", "")
    round_.injected_all(moments)
    assert not fleet.deaths, fleet.deaths


def _has_aborted(worker: Process) -> bool:
    return any(each["aborts"] for each in (worker.status() or {}).values())


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
        lane = plan.partition("/")[0]
        fleet.until("the lane is opened again", lambda w=worker, lane=lane: _reopened(w, lane))
        round_.injected(at)
    assert not fleet.deaths, fleet.deaths


def _reopened(worker: Process, lane: str) -> bool:
    return bool((worker.status() or {}).get(lane, {}).get("reopened"))

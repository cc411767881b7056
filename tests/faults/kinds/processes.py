"""Faults of worker processes: killed, stopped for too long, asked to end, more and fewer of them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.faults.harness.fleet import Process
from tests.faults.round import Round

# Each named point with the worker's plan and what has to be going on for the point to be reached.
POINTS = {
    "produced, not committed": ("producer.flush:after", "load"),
    "committed, not in RocksDB": ("producer.commit:after", "load"),
    "before the store's write": ("store.write:before", "load"),
    "in restore": ("reader.poll:after", "restore"),
    "restored rows written": ("store.write:after", "restore"),
    "committed offsets read": ("consumer.committed:after", "start"),
    "in assign": ("listener.assigned:before", "start"),
    "assigned": ("listener.assigned:after", "start"),
    "in revoke": ("listener.revoked:before", "rebalance"),
    "revoked": ("listener.revoked:after", "rebalance"),
}
LANES = ("users", "orders", "inventory", "payments", "checkout_saga", "checkout_2pc", "reports")


def kills(round_: Round, times: int) -> None:
    """SIGKILL of two workers in turn at random moments, the second mostly while the first still starts again."""
    steps = round_.schedule([round(round_.rng.uniform(0.02, 1.0), 2) for _ in range(times)])
    round_.begin("", "")
    moments = []
    for n, pause_s in enumerate(steps, 1):
        victim = round_.fleet.until("one works", lambda: next(filter(working, round_.fleet.workers), None))
        round_.pass_time(pause_s)
        moments.append(time.time())
        victim.kill()
        assert victim.popen.returncode == -9
        if n % 4 == 0:
            round_.until_recovered(moments[-1])
    round_.injected_all(moments)


def working(worker: Process) -> bool:
    """Whether it has been given anything to do."""
    status = worker.status()
    return bool(status) and any(each["assigned"] for each in status.values())


def kills_at_points(round_: Round, times: int, names: Sequence[str] = tuple(POINTS)) -> None:
    """SIGKILL at each named point, of a lane that the seed chooses. Each worker that dies is followed by the next."""
    steps = []
    for n in range(times):
        point, needs = POINTS[names[n % len(names)]]
        # orders' reader is also busy with its replica; the others' read for restores alone
        lane = round_.rng.choice([lane for lane in LANES if not (needs == "restore" and lane == "orders")])
        steps.append((f"{lane}/{point}@{round_.rng.randint(2, 15) if needs == 'load' else 1}=kill", needs))
    round_.schedule(steps)
    round_.begin("", "")
    fleet = round_.fleet
    first = fleet.workers[0]
    fleet.release(first)
    first.kill()  # which leaves a tail that was not flushed: there is something to restore
    doomed = fleet.start(steps[0][0])
    moments = []
    for (plan, needs), (following, _) in zip(steps, [*steps[1:], ("", "")], strict=True):
        fleet.release(doomed)
        follower = None
        if needs == "rebalance":
            fleet.until("the worker runs", lambda doomed=doomed: doomed.runs() or not doomed.alive)
            follower = fleet.start(following)  # its coming takes partitions away from the others
            round_.result.rebalances += 1
        fleet.until(f"the worker dies at {plan}", lambda doomed=doomed: not doomed.alive)
        assert doomed.popen.returncode == -9, f"{plan}: ended with {doomed.popen.returncode}: {doomed.last()}"
        [(at, what)] = doomed.fired()
        assert what == plan
        moments.append(at)
        doomed = follower or fleet.start(following)
    round_.injected_all(moments)


def zombies(round_: Round, times: int) -> None:
    """SIGSTOP for longer than the session, in the middle of a transaction or anywhere; another worker takes over."""
    steps = []
    for n in range(times):
        plan = (
            "" if n % 2 else f"{round_.rng.choice(LANES)}/{round_.rng.choice(MIDDLES)}@{round_.rng.randint(5, 30)}=stop"
        )
        steps.append(plan)
    round_.schedule(steps)
    round_.begin("", "")
    for plan in steps:
        zombie(round_, plan)


MIDDLES = ("producer.flush:before", "producer.flush:after", "producer.commit:before", "producer.commit:after")


def zombie(round_: Round, plan: str) -> None:
    """One worker is stopped until its partitions are others', then goes on as if nothing had happened."""
    fleet = round_.fleet
    sleeper = fleet.workers[0]
    if plan:
        fleet.release(sleeper)
        sleeper.stop()
        sleeper = fleet.start(plan)
        fleet.until(f"the worker stops at {plan}", sleeper.is_stopped)
        assert len(sleeper.fired()) == 1
    else:
        fleet.until("the worker runs", sleeper.runs)
        sleeper.pause()
    at = time.time()
    address = sleeper.address
    assert address
    fleet.until("the group has left it out", lambda: address not in members(round_))
    took_s = round_.until_recovered(at)  # by the others alone: it is still stopped
    assert sleeper.is_stopped()
    round_.result.injected += 1
    round_.result.rebalances += 2
    round_.result.recovered_s.append(took_s)
    before = len(sleeper.log.read_text())
    sleeper.resume()
    fleet.until("the zombie hears that it is one", lambda: left_out(sleeper.log.read_text()[before:]))
    round_.until_recovered(time.time())
    fleet.until_all_run()


def left_out(log: str) -> bool:
    """Whether a worker says that its partitions, its transaction or its membership is gone."""
    return any(sign in log for sign in (": lost ", ": revoked ", "fenced", "going on from", "folding again"))


def members(round_: Round) -> set[str]:
    """Addresses of the workers that hold anything of any service, as the coordinator knows them."""
    from pipeline.adapters.kafka.owners import address

    services = list(round_.shop.topology.services)
    described = round_.shop.admin.describe_consumer_groups(services, request_timeout=5)
    return {address(member.client_id) or "" for future in described.values() for member in future.result().members}


def ends(round_: Round, times: int) -> None:
    """SIGTERM under load: each worker has to end within 10 s with code 0."""
    steps = round_.schedule([(round_.rng.randrange(2), round(round_.rng.uniform(0.05, 1.0), 2)) for _ in range(times)])
    round_.begin("", "")
    for victim, pause_s in steps:
        round_.pass_time(pause_s)
        worker = round_.fleet.workers[victim]
        round_.fleet.until("the worker runs", worker.runs)
        at = time.time()
        took_s = worker.stop()
        round_.result.notes.append(f"ended in {took_s:.1f} s")
        round_.injected(at)


def rebalances(round_: Round, times: int) -> None:
    """One worker, then two, then four, then one again."""
    round_.begin("")
    fleet = round_.fleet
    for _ in range(times):
        for count in (2, 4, 1):
            at = time.time()
            changes = abs(count - len(fleet.workers))
            while len(fleet.workers) < count:
                fleet.start()
            leaving = fleet.workers[count:]
            for worker in leaving:
                fleet.release(worker)
                worker.popen.terminate()
            for worker in leaving:
                worker.stop()
            fleet.until_all_run()
            round_.result.rebalances += changes
            round_.injected(at, changes)

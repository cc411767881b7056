"""What makes things slow and breaks nothing: busy processors and disks, a broker that stands still, a slow `decide`.

Each kind first measures how fast work goes without it. What is made of the share that is left is what counts: a slow
machine must make work slow, and no more than that.
"""

from __future__ import annotations

import time

from tests.faults.harness import squeeze
from tests.faults.harness.fleet import Process, ran_and_waited_s
from tests.faults.harness.slowness import Pace, Slowness
from tests.faults.round import Round

HOGS = 8
HOGS_LEAST = 0.25  # cores that they have to get, or nothing was slow
TENTH = 0.1
WRITERS = 2
STOPPED_S = (8.0, 20.0)
DECIDES = ((3, 5_000), (50, 600))  # milliseconds, and how many commands wait
WARM_S, FREE_S, SLOW_S = 3.0, 6.0, 25.0
AFTER_S = 20.0  # that a broker which stood still is watched for
CALM = 20  # commands a second where each is to take 50 ms; half of a second's at the most
PATIENCE = 4  # times what a backlog should take


def hogs(round_: Round, times: int, seconds: float = SLOW_S) -> None:
    """Eight busy processes beside the workers. What is left: what workers and brokers get of what they want to run.

    That counts whatever else runs on the machine, too, and tells it from standing still, when they want nothing.
    """
    workers, _ = _begin(round_, 2)
    pids = [worker.popen.pid for worker in workers] + [node.pid for node in round_.cluster.nodes]
    for _ in range(times):
        free, had = _worked_of_wanted(round_, pids, FREE_S)
        with squeeze.hogs(HOGS) as used_s:
            at, began = used_s(), time.monotonic()
            rate, has = _worked_of_wanted(round_, pids, seconds)
            used = (used_s() - at) / (time.monotonic() - began)
        assert used > HOGS_LEAST, f"the hogs had no more than {used:.2f} cores"
        _note(round_, Pace(f"{HOGS} hogs, which had {used:.2f} cores", free, rate, min(1.0, has / had)))


def _worked_of_wanted(round_: Round, pids: list[int], seconds: float) -> tuple[float, float]:
    """What was done a second, as `_worked`; and for how much of the time that they wanted to run the processes did."""
    before = [ran_and_waited_s(pid) for pid in pids]
    rate, _ = _worked(round_, seconds)
    after = [ran_and_waited_s(pid) for pid in pids]
    ran, waited = (sum(now[n] - then[n] for now, then in zip(after, before, strict=True)) for n in (0, 1))
    return rate, ran / (ran + waited)


def tenth(round_: Round, times: int) -> None:
    """The only worker has a tenth of a core. What is left: that of what it used before."""
    (worker,), _ = _begin(round_, 1)
    used_s = worker.processor_s()
    free, took_s = _worked(round_, FREE_S)
    before = (worker.processor_s() - used_s) / took_s
    for _ in range(times):
        with squeeze.part_of_a_core(worker, TENTH) as how:
            used_s = worker.processor_s()
            rate, took_s = _worked(round_, SLOW_S)
            used = (worker.processor_s() - used_s) / took_s if worker.alive else 0.0
        assert used < 2 * TENTH, f"it had {used:.2f} of a core"
        what = f"a tenth of a core, {how}; it had {used:.2f}, and {before:.2f} before"
        _note(round_, Pace(what, free, rate, TENTH / before))


def stopped_brokers(round_: Round, times: int) -> None:
    """The broker stands still for 8 s, then for 20 s. What is left: the time that it did not."""
    _, free = _begin(round_, 2)
    (node,) = round_.cluster.nodes
    for n in range(times):
        stopped_s = STOPPED_S[n % len(STOPPED_S)]
        with round_.unwitnessed():
            round_.press(1.0)
            since = time.time()
            node.pause()
            try:
                round_.pass_time(stopped_s)
            finally:
                node.resume()
            back = time.time()
            round_.press(AFTER_S)
        until = time.time()
        rate = round_.observer.shown(since, until) / (until - since)
        _note(
            round_, Pace(f"broker stopped for {back - since:.0f} s", free, rate, (until - back) / (until - since)), back
        )


def busy_disk(round_: Round, times: int) -> None:
    """The broker's disk is written to and synced without a pause. What is left: as each who writes gets as much."""
    _, free = _begin(round_, 2)
    (node,) = round_.cluster.nodes
    for _ in range(times):
        with squeeze.busy_disk(node.directory, WRITERS):
            rate, _ = _worked(round_, SLOW_S)
        _note(round_, Pace(f"{WRITERS} writers that sync", free, rate, 1 / (1 + WRITERS)))


def slow_decides(round_: Round, times: int) -> None:
    """`decide` of users takes 3 ms, then 50 ms, without a rest, and a worker finds a backlog when it starts.

    What is left: as each command takes that much more than it took without.
    """
    round_.result.slowness = round_.result.slowness or Slowness()
    round_.begin("", per_second=CALM)
    for n in range(times):
        ms, commands = DECIDES[n % len(DECIDES)]
        free, _ = _backlog(round_, commands, 0)
        least_s = commands * ms / 1000
        slow, at = _backlog(round_, commands, ms, PATIENCE * least_s)
        share = (1 / free) / (1 / free + ms / 1000)
        _another(round_, 0)
        _note(round_, Pace(f"decide of {ms} ms, {commands} commands", free, slow, share), at)


def _backlog(round_: Round, commands: int, ms: int, patience_s: float = 90.0) -> tuple[float, float]:
    """Commands for users that wait when the worker starts, with a `decide` of so long: how many a second it does.

    From when it holds its partitions to when they are done, or patience is at its end. And when it began.
    """
    with round_.shop.watcher("users") as watcher:
        _gone(round_)
        done_before = watcher.look()[0]["users"].committed
        round_.burst(of_users=commands)
        wanted = watcher.look()[0]["users"].ends - done_before
        _another(round_, ms)
        round_.fleet.until("it holds its partitions", lambda: _holds(round_.fleet.workers[0]))
        at, began = time.time(), time.monotonic()
        done = 0
        while done < wanted and time.monotonic() < began + patience_s:
            round_.pass_time(0.05)
            done = watcher.look()[0]["users"].committed - done_before
        return max(0, done) * commands / wanted / (time.monotonic() - began), at


def _gone(round_: Round) -> None:
    """The worker is ended at once, whatever it is in."""
    for worker in list(round_.fleet.workers):
        round_.fleet.release(worker)
        worker.kill()


def _another(round_: Round, ms: int) -> None:
    """A worker with a `decide` of so long takes the place of the one there is."""
    _gone(round_)
    round_.fleet.environment = {"TEST_DECIDE_MS": str(ms)} if ms else {}
    round_.fleet.start()


def _holds(worker: Process) -> bool:
    status = worker.status()
    return bool(status) and status["users"]["assigned"] > 0 and not status["users"]["restoring"]


def _begin(round_: Round, count: int) -> tuple[list[Process], float]:
    """Workers under a load that they cannot keep up with, and what they get done of it a second."""
    round_.result.slowness = round_.result.slowness or Slowness()
    round_.begin(*[""] * count)
    round_.press(WARM_S)
    return list(round_.fleet.workers), _worked(round_, FREE_S)[0]


def _worked(round_: Round, seconds: float) -> tuple[float, float]:
    """Records that were made and committed a second, of all services, while more waited; and in how long."""
    since = time.time()
    took_s = round_.press(seconds)
    return round_.observer.shown(since, since + took_s) / took_s, took_s


def _note(round_: Round, pace: Pace, at: float | None = None) -> None:
    """The pace, and the time to recover since the slowness was over, or had begun at `at`."""
    slowness = round_.result.slowness
    assert slowness is not None
    slowness.paces.append(pace)
    round_.result.notes.append(str(pace))
    round_.injected(at or time.time())

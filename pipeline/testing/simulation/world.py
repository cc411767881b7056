"""The simulated world: a broker in memory, workers in greenlets, and a scheduler that follows a schedule exactly.

Nothing depends on chance or the machine: the same schedule gives the same history, call by call.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

from pipeline.adapters.memory import MemoryClock, MemoryDatabase, MemoryKafka, MemoryStore
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.engine.tracing.port import Tracers
from pipeline.errors import TableUnavailable
from pipeline.flow.functions.raised import is_topologys
from pipeline.testing.simulation.clients import store
from pipeline.testing.simulation.faults import strike
from pipeline.testing.simulation.judge.oracle import Oracle
from pipeline.testing.simulation.judge.settled import left_open, overdue
from pipeline.testing.simulation.log_capture import engine_log
from pipeline.testing.simulation.mishaps import Mishaps
from pipeline.testing.simulation.operators import clear, operate
from pipeline.testing.simulation.schedule import STEP, TIME, Fault, Operation, Schedule, Sent
from pipeline.testing.simulation.worker import Killed, Worker

STEP_S = 0.001  # how long a call takes
STEPS_MAX = 5_000  # for each worker
SETTLE_S = 120.0  # after the last fault, all must be settled within this virtual time
FAULTS_S = 40.0  # how long after the last command faults may strike
RESUME_S, RESUMES = 10.0, 6  # after the last fault


Mend = Callable[[bool], None]


class World:
    """One history while it runs."""

    def __init__(
        self,
        oracle: Oracle,
        schedule: Schedule,
        *,
        telling: bool = False,
        mend: Mend = lambda mended: None,
        park: bool = True,
    ) -> None:
        """Set up. `mend(mended)`: mends or breaks the code. `park`: False holds a worker whose code raises."""
        self.oracle, self.schedule, self.telling, self.mend = oracle, schedule, telling, mend
        self.raising = schedule.raising if park else (0.0, 1)
        self.tracers: Tracers | None = None
        self.kafka = MemoryKafka(MemoryClock())
        self.kafka.changed = self._changed
        self.kafka.timed_out = self._timed_out
        self.records_per_poll = schedule.records_per_poll
        self.idle_wait_s = 1.0
        self.story: list[tuple[float, str, str]] = []
        self.findings: list[str] = []
        self.errors: list[BaseException] = []
        self.struck: Counter[str] = Counter()  # faults by kind
        self.points: set[str] = set()  # where faults struck
        self.touched: MemoryStore | None = None
        self.steps = 0
        self.running = ""  # the name of the worker that runs
        self.hub: greenlet = getcurrent()
        self._ready: deque[Worker] = deque()
        self._switches = frozenset(schedule.switches)
        self._faults: dict[str, dict[int, Fault]] = {}
        for fault in schedule.faults:
            if fault.point not in (STEP, TIME):
                self._faults.setdefault(fault.point, {})[fault.nth] = fault
        self._step_faults = {f.nth: f for f in schedule.faults if f.point == STEP}
        self._counts: Counter[str] = Counter()
        self.armed = True
        self.ahead_ms = 0  # by how much any machine's clock has been ahead at most
        self._unsent = self._to_come = 0
        self.at_quiet: list[Callable[[], None]] = []  # what waits for a quiet moment
        self.mishaps, self._closed = Mishaps(self), False
        self.paused = dict[TP, int]()  # partitions that operators have paused, and where each stands since
        for plan in oracle.plans:
            for topic, kind in plan.own_topics():
                self.kafka.create_topic(topic, schedule.partitions, compacted=kind.compacted)
        self.workers = [Worker(self, plan, n) for plan in oracle.plans for n in range(schedule.workers)]
        self.twins: list[Worker] = []  # workers under the name of one of these, with other home directories
        self.steps_max = STEPS_MAX * max(4, len(self.workers))
        self._databases: dict[str, MemoryDatabase] = {}
        self._watchers = self._interests()

    def database(self, plan: ServicePlan) -> MemoryDatabase:
        """Return the database of a service, which all its workers share."""
        return self._databases.setdefault(plan.service.name, MemoryDatabase())

    def _interests(self) -> dict[str, list[Worker]]:
        """Map each topic, group and producer to the workers that its changes wake."""
        watchers: dict[str, list[Worker]] = {}
        for worker in self.workers:
            plan = worker.plan
            names = {
                *plan.source_topics,
                *(r.source.topic for r, _, _ in plan.replicas),
                plan.service.name,
                worker.name,
            }
            names |= {spec.topic for spec in plan.histories.values()}
            if self.schedule.standby:
                names |= {
                    spec.changelog for source_topic in plan.source_topics.values() for spec in source_topic.tables
                }
            for name in names:
                watchers.setdefault(name, []).append(worker)
        return watchers

    # --- a history ----------------------------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """Run the history from the first start to the judgement. Return what is wrong."""
        with engine_log(self):
            try:
                self._history()
            finally:
                self.close()
        return self.findings

    def _history(self) -> None:
        clock = self.kafka.clock
        for sent in self.schedule.commands:
            self._unsent += 1
            clock.later(sent.at_ms / 1000 or 1e-6, lambda sent=sent: self._arrives(sent))  # type: ignore[misc]
        for fault in self.schedule.faults:
            if fault.point == TIME:
                self._to_come += 1
                clock.later(fault.nth / 1000 or 1e-6, lambda fault=fault: self._falls_due(fault))  # type: ignore[misc]
        for operation in self.schedule.operations:
            clock.later(operation.at_ms / 1000 or 1e-6, lambda o=operation: operate(self, o))  # type: ignore[misc]
        self.mend(not self.schedule.mended_ms)
        if self.schedule.mended_ms:
            clock.later(self.schedule.mended_ms / 1000, self._mended)
        for worker in self.workers:
            worker.start()
        last_s = max((sent.at_ms / 1000 for sent in self.schedule.commands), default=0.0)
        self.until(self._faults_are_over, clock.now_s + last_s + FAULTS_S)
        self.findings += left_open(self)
        self.calm()
        if not self.findings:
            if self.until(self._is_all_there, clock.now_s + SETTLE_S) and self._is_cleared():
                try:
                    self.findings += self.oracle.judge(self)
                except TableUnavailable as error:
                    self.wrong(f"a partition has moved while all was calm: {error}", error)
            elif not self.findings:
                self.wrong(f"not settled {SETTLE_S:.0f} s after the last fault: {self.unsettled()}")

    def calm(self) -> None:
        """Stop the faults, restart the workers that are down, and mend the code."""
        self.armed, self.at_quiet = False, []  # a day that found no quiet moment would outlast the time to settle in
        self._mended()
        self.tell("", "calm: no more faults")
        self.mishaps.set_all_right()
        self._resume(RESUMES)
        for worker in self.everybody():
            worker.clock.skew_s = worker.busy_s = 0.0  # with a clock that is behind, nothing would be due for long
            self.look_at_disk(worker)
            worker.resume(worker.greenlet)
            if worker in self.twins:
                worker.stopping = True
            elif worker.state == "down":
                worker.start()

    def _resume(self, times: int) -> None:
        """Resume all that are held, now and for a while: records of before the calm may be committed later."""
        operate(self, Operation(0, "resume"))
        if times:
            self.kafka.clock.later(RESUME_S, lambda: self._resume(times - 1))

    def close(self) -> None:
        """End all greenlets that still run."""
        self.armed = self.telling = False
        self._closed = True
        for worker in self.everybody():
            if worker.greenlet:  # it has begun and not ended
                worker.greenlet.throw(Killed)
            worker.greenlet = None

    def until(self, there: Callable[[], bool], deadline_s: float) -> bool:
        """Run until `there()` at a quiet moment. False at the deadline, or once there is a finding."""
        clock, ready = self.kafka.clock, self._ready
        while not self.findings:
            while ready:
                worker = ready.popleft()
                if worker.state == "ready":
                    assert worker.greenlet is not None
                    worker.state, self.running = "running", worker.name
                    worker.greenlet.switch()
                if self.steps > self.steps_max:
                    self.wrong(f"no end after {self.steps_max} calls: {self.unsettled()}")
                    return False
            if there():
                return True
            if self.at_quiet and self._is_quiet():
                self.at_quiet.pop(0)()
                continue
            waking = min((w.wake_s for w in self.everybody() if w.state == "waiting"), default=float("inf"))
            moment = min(clock.next_s, waking)
            if moment > deadline_s:
                clock.advance(max(0.0, deadline_s - clock.now_s))
                return False
            clock.advance(max(0.0, moment - clock.now_s))
            for worker in self.everybody():
                if worker.state == "waiting" and worker.wake_s <= clock.now_s:
                    self.make_ready(worker)
        return False

    # --- names and transactions ---------------------------------------------------------------------------------------

    def everybody(self) -> list[Worker]:
        """Return all workers, twins included."""
        return [*self.workers, *self.twins]

    def double(self, worker: Worker) -> None:
        """Start another worker under the same name, with another home directory."""
        twin = Worker(self, worker.plan, self.workers.index(worker) % self.schedule.workers, "elsewhere")
        assert twin.name == worker.name
        if all(other.name != twin.name for other in self.twins):
            self.twins.append(twin)
            for watchers in self._watchers.values():
                if worker in watchers:
                    watchers.append(twin)
            twin.start()

    def opens(self, worker: Worker) -> None:
        """Check a worker that opens its producer, which fences all others of that name."""
        for other in self.everybody():
            if other is not worker and other.name == worker.name and other.is_member:
                self.wrong(f"{worker.name} of {worker.identity.home} fences its namesake, a member of the group")

    def _timed_out(self, name: str) -> None:
        named = [worker for worker in self.everybody() if worker.name == name]  # of two, it may be the one that is gone
        if len(named) == 1 and named[0].lane is not None:
            self.wrong(f"a transaction of {name} has timed out, though its worker lives")

    # --- the scheduler ------------------------------------------------------------------------------------------------

    def make_ready(self, worker: Worker) -> None:
        """Let a worker go on."""
        worker.state = "ready"
        self._ready.append(worker)

    def switch(self) -> None:
        """Switch from a worker to the scheduler."""
        self.hub.switch()

    def _changed(self, name: str) -> None:
        for worker in self._watchers.get(name, ()):
            if worker.state == "waiting":
                self.make_ready(worker)

    def at(self, worker: Worker, point: str) -> None:
        """Pass a point: let time pass, and let the fault or switch planned there happen."""
        if worker.state != "running":
            return  # the world looks at what the worker has; nothing happens there
        self.steps = steps = self.steps + 1
        if steps > self.steps_max:
            raise Killed
        clock = self.kafka.clock
        now_s = clock.now_s + STEP_S
        if now_s >= clock.next_s:
            clock.advance(STEP_S)
        else:
            clock.now_s = now_s
        if worker.busy_s:
            worker.toil()
        if self.armed:
            fault = self._step_faults.get(steps)
            if point in self._faults:
                self._counts[point] += 1
                fault = self._faults[point].get(self._counts[point], fault)
            if fault is not None:
                strike(self, worker, fault, point)
            if steps in self._switches and self._ready:
                self.make_ready(worker)
                self.switch()

    # --- commands -----------------------------------------------------------------------------------------------------

    def _arrives(self, sent: Sent) -> None:
        self._unsent -= 1
        name = sent.id or f"c{len(self.schedule.commands) - self._unsent}"
        due_ms = self.kafka.clock.time_ms() + sent.wait_ms if sent.wait_ms else None
        store(self, sent, name, due_ms)

    def send(self, aggregate: str, key: str, command: Any, name: str, **more: Any) -> TP:
        """Store a client's command. `more`: what `store` takes besides."""
        return store(self, Sent(0, aggregate, key, command), name, **more)

    # --- the topology's code ------------------------------------------------------------------------------------------

    def _mended(self) -> None:
        self.mend(True)

    def may_raise(self, call: Callable[..., Any], *args: Any) -> bool:
        """Return whether the topology's code, as it was before it was mended, raises on that call."""
        self.mend(False)
        try:
            call(*args)
        except BaseException as error:
            return is_topologys(error)
        finally:
            self.mend(True)
        return False

    # --- faults -------------------------------------------------------------------------------------------------------

    def _is_cleared(self) -> bool:
        return not self.schedule.cleared or clear(self, SETTLE_S)

    def _falls_due(self, fault: Fault) -> None:
        self._to_come -= 1
        if self.armed:
            strike(self, None, fault, TIME)

    # --- the state of the world ---------------------------------------------------------------------------------------

    def _is_quiet(self) -> bool:
        """Return whether no worker hangs and no transaction is open: running readers have read everything."""
        return (
            not self._unsent
            and not self.kafka.slow
            and not self.kafka.transactions.undecided()
            and all(worker.state != "paused" for worker in self.everybody())
            and all(worker.is_level and worker.has_followed for worker in self.everybody() if worker.lane is not None)
        )

    def _faults_are_over(self) -> bool:
        return (
            not self._unsent
            and not self._to_come
            and not self.at_quiet
            and not self.mishaps.pending
            and not self._behind()
        )

    def is_settled(self) -> bool:
        """Return whether all that was sent has been folded everywhere, with all its effects."""
        return not self.unsettled()

    def _behind(self) -> list[str]:
        found = []
        for plan in self.oracle.plans:
            offsets = self.kafka.group(plan.service.name).offsets
            for topic in plan.source_topics:
                for log in self.kafka.topics[topic].logs:
                    position = offsets.get(log.tp)
                    offset = 0 if position is None else position.offset
                    if offset < log.end:
                        found.append(
                            f"{plan.service.name} has folded {topic}-{log.tp.partition} to {offset} of {log.end}"
                        )
        return found

    def _is_all_there(self) -> bool:
        """Whether it is settled, and replicas hold nothing any more."""
        return self.is_settled() and not any(count for w in self.workers for count in w.stats.replica_keys.values())

    def unsettled(self) -> str:
        """Return why the world is not settled; empty if it is."""
        reasons = self._behind()
        if not reasons:
            reasons = [f"{w.name} is {w.state}, not level" for w in self.workers if not w.is_level]
        if not reasons:
            for plan in self.oracle.plans:
                assigned = sum(w.stats.assigned for w in self.workers if w.plan is plan)
                if assigned != self.schedule.partitions * len(plan.source_topics):
                    reasons.append(f"{assigned} partitions of {plan.service.name} are held")
        if not reasons and self.kafka.transactions.undecided():
            reasons = ["a transaction is open"]
        if not reasons:
            reasons = list(overdue(self, self.oracle.deadlines))
        return "; ".join(reasons)

    def wrong(self, finding: str, error: BaseException | None = None) -> None:
        """Add a finding."""
        self.findings.append(finding)
        if error is not None:
            self.errors.append(error)

    def look_at_disk(self, worker: Worker) -> None:
        """Check that a disk, at any time, has a committed prefix of the changelogs."""
        if not self._closed and not self.mishaps.awaits(worker):
            self.findings += self.oracle.disk(self, worker)

    def tell(self, who: str, what: str) -> None:
        """Add a line to the story."""
        if self.telling:
            self.story.append((self.kafka.clock.now_s, who, what))

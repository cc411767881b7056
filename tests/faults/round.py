"""One round: fresh topics and tables, a steady load, faults, then all settles and is judged."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.topology import load
from tests.faults.harness.cluster import Cluster
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.load import Load, Sent
from tests.faults.harness.observer import Observer
from tests.faults.harness.slowness import Slowness
from tests.faults.oracle import PARTITIONS, Damage, check
from tests.helpers.postgres import Postgres
from tests.helpers.support import Shop

PER_SECOND = 60
PATIENCE_S = 90.0


LAG = 12_000  # records of all services; while a round presses, so many wait: lanes take as much at once as they may
BURST = 2_000


@dataclass(slots=True)
class Result:
    """What a round has come to."""

    kind: str
    seed: int
    judged: bool = False  # else the round was not carried through, and that nothing was found says nothing
    injected: int = 0
    rebalances: int = 0
    sent: int = 0
    reads: int = 0  # of witnesses, each judged
    damage: Damage = field(default_factory=Damage)
    recovered_s: list[float] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)  # of workers, that no fault ordered
    notes: list[str] = field(default_factory=list)
    slowness: Slowness | None = None  # None where something is broken
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        """Whether anything is not as it must be."""
        return bool(self.damage) or (self.slowness is not None and bool(self.slowness.broken))


class Round:
    """What a fault has at hand. All chance comes from `rng`, drawn before the first fault: see `schedule`.

    `postgres`: where reports has its tables that are in SQL; else they are in SQLite.
    """

    def __init__(
        self,
        kind: str,
        seed: int,
        cluster: Cluster,
        home: Path,
        *,
        proxied: bool = False,
        postgres: Postgres | None = None,
    ) -> None:
        self.result = Result(kind, seed)
        self.rng = random.Random(f"{kind} {seed}")
        self.cluster, self.home = cluster, home
        home.mkdir(parents=True)
        self.shop = Shop(cluster.bootstrap, home, load("topologies"), PARTITIONS, cluster.replication)
        self.postgres = postgres
        sqlite = f"sqlite:///{home / 'state' / 'reports' / 'reports.sqlite'}"
        self.database = sqlite if postgres is None else postgres.new_database()
        arguments = () if postgres is None else ("--database", f"reports={self.database}")
        self.fleet = Fleet(home, cluster.proxied if proxied else cluster.bootstrap, arguments)
        self.observer = Observer(cluster.bootstrap, PARTITIONS)
        self.cleanup = ExitStack()
        self._load: Load | None = None
        self.sent = Sent()  # all that was sent, once it has settled

    @property
    def state(self) -> Path:
        return self.home / "state"

    def schedule(self, steps: list[Any]) -> list[Any]:
        """The faults to come, for whoever has to reproduce them."""
        self.result.notes.append(f"schedule: {steps}")
        return steps

    def begin(self, *plans: str, per_second: int = PER_SECOND) -> None:
        """One worker for each plan, under load; returns when every partition is worked on.

        In a round that has begun already, workers are added, sent away or replaced until they are as asked.
        """
        fleet = self.fleet
        started = time.time()
        unwanted = [w for n, w in enumerate(fleet.workers) if any(plans) or n >= len(plans) or w.plan]
        for worker in unwanted:
            fleet.release(worker)
            if worker.plan:
                worker.kill()
            elif worker.alive:
                worker.stop()
        for plan in plans[len(fleet.workers) :]:
            fleet.start(plan)
        if self._load is None:
            self._load = Load(self.cluster.bootstrap, self.shop.topology, self.result.seed, per_second)
        if not any(plans):
            self.until_recovered(started)
            fleet.until_all_run()

    def until_recovered(self, since: float, patience_s: float = PATIENCE_S) -> float:
        """Waits until every watched partition shows work done after `since`; returns how long that took."""
        try:
            self.fleet.until("every partition moves", lambda: self.observer.recovered_s(since) is not None, patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; standing: {', '.join(self.observer.waiting_for(since))}") from None
        return self.observer.recovered_s(since) or 0.0

    def injected(self, since: float, times: int = 1) -> None:
        """Counts a fault that was seen to happen at `since`, and measures the time to recover from it."""
        self.result.injected += times
        self.result.recovered_s.append(self.until_recovered(since))

    def injected_all(self, moments: list[float]) -> None:
        """Count faults injected one after another, and measure the recovery from the last."""
        self.until_recovered(max(moments))
        self.result.injected += len(moments)
        self.result.recovered_s += [self.observer.recovered_s(at) or 0.0 for at in moments]

    def pass_time(self, seconds: float) -> None:
        """Lets the load run on; when within it a fault comes is what the seed decides."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.fleet.keep()
            time.sleep(min(0.05, max(0.0, deadline - time.monotonic())))

    def burst(self, commands: int = 0, of_users: int = 0) -> None:
        """So many more commands at once, of all kinds or for users alone; stored when this returns."""
        assert self._load is not None
        self._load.burst(commands, of_users)

    def press(self, seconds: float) -> float:
        """Keeps more waiting for the workers than they get done in that time; returns how long it took."""
        started = time.monotonic()
        with self.shop.watcher() as watcher:
            while time.monotonic() < started + seconds:
                self.fleet.keep()
                if sum(lag.ends - lag.committed for lag in watcher.look()[0].values()) < LAG:
                    self.burst(BURST)
        return time.monotonic() - started

    @contextmanager
    def unwitnessed(self) -> Iterator[None]:
        """Nobody reads meanwhile.

        A question to a group's coordinator that is left without an answer may end the process that has asked, by an
        assertion of librdkafka (its issue 4605): here that would be this one.
        """
        assert self._load is not None
        with self._load.unwitnessed():
            yield

    def settle(self) -> None:
        """Ends the load and waits until all of it has gone all the way through."""
        assert self._load is not None
        sent = self._load.end()
        self.result.sent = len(sent)
        with self.shop.watcher() as watcher:
            self.fleet.until("everything is folded", lambda: watcher.look()[1], PATIENCE_S)
        self.fleet.until_all_run()
        self.sent = sent
        self.result.reads = sent.reads.total()
        self.result.damage = check(self.shop, sent, self.database)
        self.result.judged = True

    def close(self) -> None:
        if self._load is not None:
            self._load.abandon()
        self.result.deaths = self.fleet.deaths
        if (slow := self.result.slowness) is not None:
            slow.read(self.fleet.lines(), self.result.deaths)
        self.fleet.close()
        self.observer.close()
        self.cleanup.close()


@contextmanager
def running(
    kind: str, seed: int, cluster: Cluster, home: Path, *, proxied: bool = False, postgres: Postgres | None = None
) -> Iterator[Round]:
    """A round around the faults in the body; settled, judged and cleared away after it."""
    started = time.monotonic()
    made = Round(kind, seed, cluster, home, proxied=proxied, postgres=postgres)
    try:
        yield made
        made.settle()
    finally:
        made.close()
        made.result.seconds = time.monotonic() - started
    if not made.result.bad:
        shutil.rmtree(home)

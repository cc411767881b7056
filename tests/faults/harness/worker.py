"""`pipeline worker …` with faults: python -m tests.faults.harness.worker PLAN FIRED worker TOPOLOGY …

PLAN is a plan of pipeline.testing.faults. Each fault is noted in the file FIRED before it happens, so that a test can
tell that it did.
"""

from __future__ import annotations

import faulthandler
import functools
import os
import signal
import sys
import time

from pipeline.adapters.kafka import KafkaGroupConsumer, KafkaLogReader, KafkaProducer
from pipeline.adapters.rocksdb.stores import RocksStores
from pipeline.adapters.sql import SqlStores
from pipeline.cli import run
from pipeline.engine.loop import checkpoint
from pipeline.engine.ports import GroupConsumer, LogReader, Producer, SharedStores, Stores
from pipeline.model import Rejected
from pipeline.testing.faults import Action, Faults, Firing, Plan
from pipeline.testing.points import pointed
from pipeline.worker import main as worker
from topologies import users


def noting(path: str) -> Action:
    """Appends to the file at once; what is written survives a SIGKILL."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(firing: Firing) -> None:
        os.write(file, f"{time.time():.3f} {firing}\n".encode())

    return note


def faulty(faults: Faults) -> worker.Adapters:
    """The real adapters with points. A lane is known by its service."""

    def consumer(bootstrap: str, group: str, *identity: str) -> GroupConsumer:
        return pointed("consumer", KafkaGroupConsumer(bootstrap, group, *identity), faults.of(group))

    def producer(bootstrap: str, identity: str) -> Producer:
        return pointed("producer", KafkaProducer(bootstrap, identity), faults.of(identity.partition("-")[0]))

    def reader(bootstrap: str, name: str) -> LogReader:
        return pointed("reader", KafkaLogReader(bootstrap, name), faults.of(name.partition("-")[0]))

    def stores(inner: Stores) -> Stores:
        assert isinstance(inner, RocksStores)
        return pointed("stores", inner, faults.of(inner.directory.parent.name))

    def shared(inner: SharedStores) -> SharedStores:
        assert isinstance(inner, SqlStores)
        return pointed("stores", inner, faults.of(inner.service))

    return worker.Adapters(consumer, producer, reader, stores, shared)


def slow_decide(seconds: float) -> None:
    """From now on `decide` of users keeps a processor busy for so long before it decides."""
    decide = users.users.decide

    def slowly(command: users.Command, user: users.User) -> list[users.Event] | Rejected:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return decide(command, user)  # type: ignore[return-value]

    object.__setattr__(users.users, "decide", slowly)  # services have it already


def main() -> None:
    faulthandler.register(signal.SIGUSR1)  # a worker that hangs is asked where
    plan, fired = sys.argv[1:3]
    del sys.argv[1:3]
    if flush_s := os.environ.get("TEST_FLUSH_S"):  # so that the disk is written to more often than a test lasts
        assert hasattr(checkpoint, "FLUSH_S")
        checkpoint.FLUSH_S = float(flush_s)
    if decide_ms := os.environ.get("TEST_DECIDE_MS"):
        slow_decide(float(decide_ms) / 1000)
    if plan:
        adapters = faulty(Faults(Plan.parse(plan), noting(fired)))
        worker.run_worker = functools.partial(
            worker.run_worker, adapters=adapters
        )  # the command imports it when called
    run()


if __name__ == "__main__":
    main()

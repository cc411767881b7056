"""The shop on the tests' Kafka: fresh topics, real worker processes, ways to feed, wait, read and kill."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import READING, admin
from pipeline.adapters.kafka.topics import create_topics, delete_services
from pipeline.broker import local
from pipeline.client import Client
from pipeline.client.queries import QueryClient
from pipeline.demo import figures
from pipeline.demo.commands import Asked
from pipeline.demo.invoices import Invoices
from pipeline.demo.progress import Watcher
from pipeline.engine.plan import ServicePlan
from pipeline.topology import Topology, load

PATIENCE_S = 90.0
LINES_TOLD = 30


def until(what: str, check: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Waits until `check` gives something true, and gives that."""
    deadline = time.monotonic() + patience_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"after {patience_s:.0f} s still not: {what}"
        time.sleep(0.05)
    return found


@contextmanager
def shop_of_its_own(prefix: str, say: Callable[[str], None], times: str = local.SHORT_TIMES) -> Iterator[Shop]:
    """A shop on a broker that is started for it, in a directory that is thrown away unless something has failed.

    `times`: see `local.up`.
    """
    home = Path(tempfile.mkdtemp(prefix=prefix))
    broker = local.up(home / "broker", say=say, times=times)
    shop = Shop(broker.bootstrap, home, load("topologies"))
    try:
        yield shop
    except BaseException:
        say(f"kept, with the workers' logs: {home}")
        raise
    finally:
        shop.close()
        local.down(home / "broker")
    shutil.rmtree(home)


class Worker:
    """A `pipeline worker` process."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.log = home / f"worker-{len(list(home.glob('worker-*')))}.log"
        command = [sys.executable, "-m", "pipeline", "worker", *arguments, "--home", str(home)]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)

    def kill(self) -> None:
        """SIGKILL: no goodbye of any kind."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        return self.process.wait(30)

    def end(self) -> None:
        """Ends whatever is left of it and its children."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def addresses(self) -> list[str]:
        """Where its processes serve HTTP."""
        return re.findall(r"serving .* at (http://\S+)", self.log.read_text())


class Shop:
    """The reference topology on fresh topics."""

    def __init__(self, bootstrap: str, home: Path, topology: Topology, partitions: int = 4, copies: int = 1) -> None:
        self.bootstrap, self.home, self.topology = bootstrap, home, topology
        self.admin = admin(bootstrap)
        self.plans = [ServicePlan(service, codecs(topology.schemas)) for service in topology.chosen(())]
        delete_services(self.admin, self.plans)
        create_topics(self.admin, self.plans, partitions, copies)
        self._partitions = partitions
        self._workers: list[Worker] = []

    def told(self) -> Iterator[tuple[Path, str, str]]:
        """Each worker's log, whether it runs, and its last lines."""
        for worker in self._workers:
            code = worker.process.poll()
            last = worker.log.read_text().splitlines()[-LINES_TOLD:]
            yield worker.log, "runs" if code is None else f"ended with {code}", "\n".join(last)

    def worker(self, *arguments: str) -> Worker:
        """Starts a worker of the whole topology, or of what the arguments say."""
        worker = Worker(self.home, self.topology.name, "--bootstrap", self.bootstrap, *arguments)
        self._workers.append(worker)
        return worker

    def send(self, *parts: Iterable[Asked]) -> None:
        """Sends commands; each part is stored before the next begins."""
        with Client(self.bootstrap, self.topology) as client:
            for part in parts:
                for asked in part:
                    client.send(asked.aggregate, asked.key, asked.command)
                client.flush()

    def settle(self, *services: str) -> None:
        """Waits until all that was sent has gone through these services, or through all of them."""
        with self.watcher(*services) as watcher:
            until("everything is folded", lambda: watcher.look()[1])

    @contextmanager
    def watcher(self, *services: str) -> Iterator[Watcher]:
        """Sees how far these services are, or all of them."""
        plans = [w for w in self.plans if not services or w.service.name in services]
        watcher = Watcher(self.bootstrap, self.admin, plans)
        try:
            yield watcher
        finally:
            watcher.close()

    def query(self, patience_s: float = 30.0) -> QueryClient:
        """A client for the tables."""
        return QueryClient(self.bootstrap, self.topology, patience_s)

    def wrong_figures(self, invoices: Invoices) -> list[str]:
        """Where the tables differ from what the invoices come to."""
        with self.query() as client:
            return figures.differences(figures.from_tables(client), figures.from_file(invoices))

    def records(self, topic: str) -> list[Any]:
        """All that stands on a topic now, committed."""
        consumer = Consumer(READING | {"bootstrap.servers": self.bootstrap, "group.id": "test-records"})
        consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(self._partitions)])
        found, ends = [], 0
        while ends < self._partitions:
            for message in consumer.consume(100, 0.2):
                if message.error() is None:
                    found.append(message)
                else:
                    ends += 1
        consumer.close()
        return found

    def partitions(self, service: str) -> int:
        """How many source partitions a service has."""
        return sum(len(plan.source_topics) for plan in self.plans if plan.service.name == service) * self._partitions

    def close(self) -> None:
        """Ends all workers, killing those that linger."""
        for worker in self._workers:
            worker.end()

"""Two versions of a service side by side under load, one killed, and a follower in another repository."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.support import Worker, until

OLD = """
from dataclasses import dataclass

from pipeline import Aggregate, Service


@dataclass(frozen=True, slots=True)
class Place:
    amount: int


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    amount: int


@dataclass(frozen=True, slots=True)
class Order:
    amount: int = 0


def decide(command, order):
    return [OrderPlaced(command.amount)]


def evolve(order, event):
    return Order(order.amount + event.amount)


rolling = Aggregate("rolling", command=Place, event=OrderPlaced, initial=Order(), decide=decide, evolve=evolve)
service = Service("rolling", aggregates=[rolling])
"""
# An event with a field more, a command and an event that are new.
NEW = (
    OLD.replace(
        """class OrderPlaced:
    amount: int
""",
        """class OrderPlaced:
    amount: int
    channel: str = "shop"


@dataclass(frozen=True, slots=True)
class Cancel:
    pass


@dataclass(frozen=True, slots=True)
class OrderCancelled:
    amount: int
""",
    )
    .replace(
        "return [OrderPlaced(command.amount)]",
        "return [OrderCancelled(order.amount)] if isinstance(command, Cancel) else [OrderPlaced(command.amount)]",
    )
    .replace(
        "return Order(order.amount + event.amount)",
        "return Order(order.amount + event.amount if isinstance(event, OrderPlaced) else 0)",
    )
    .replace("command=Place, event=OrderPlaced", "command=Place | Cancel, event=OrderPlaced | OrderCancelled")
)
FOLLOWER = """
from dataclasses import dataclass

from pipeline import Projection, Service, Source


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    amount: int


@dataclass(frozen=True, slots=True)
class Turnover:
    amount: int = 0


def evolve(turnover, event):
    return Turnover(turnover.amount + event.amount)


source = Source("rolling.event", OrderPlaced)
turnover = Projection("rolling_turnover", sources=[source], initial=Turnover(), evolve=evolve)
service = Service("rolling_books", projections=[turnover])
"""
SEND = """
import sys
from pathlib import Path
from pipeline.client import Client
from pipeline.topology import load

topology = load(sys.argv[2])
module = sys.modules[Path(sys.argv[2]).stem]
with Client(sys.argv[1], topology, sys.argv[3]) as client:
    for line in sys.stdin:
        key, amount = line.split()
        client.send("rolling", key, module.Cancel() if amount == "cancel" else module.Place(int(amount)))
        client.flush()
        print("sent", flush=True)
"""
KEYS = [f"order-{n}" for n in range(12)]


class Repository:
    """A directory of its own, with its code, its schemas and its manifest."""

    def __init__(self, kafka: str, path: Path, name: str, code: str, before: Path | None = None) -> None:
        self.kafka, self.path, self.file = kafka, path, path / f"{name}.py"
        path.mkdir()
        self.file.write_text(code)
        (path / "schemas").mkdir()
        for file in () if before is None else (before / "schemas").iterdir():
            (path / "schemas" / file.name).write_text(file.read_text())
        self.run("schemas", "generate", str(self.file))
        self.run("schemas", "register", "--schemas", str(path / "schemas"))

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "pipeline", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def worker(self, home: str) -> Worker:
        (self.path / home).mkdir(exist_ok=True)
        return Worker(self.path / home, str(self.file), "--bootstrap", self.kafka, "--node", home)

    def verify(self) -> None:
        self.run("verify", str(self.file), "--bootstrap", self.kafka)


class Sender:
    """A client process of one version, that sends until it is stopped."""

    def __init__(self, repository: Repository, commands: Callable[[int], str]) -> None:
        command = [sys.executable, "-c", SEND, repository.kafka, str(repository.file), repository.path.name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.sent: list[str] = []
        self._stop, self._commands = threading.Event(), commands
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        while not self._stop.wait(0.05):
            line = self._commands(len(self.sent))
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
            if self.process.stdout.readline() != "sent\n":
                return
            self.sent.append(line)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0


@pytest.fixture
def running() -> Iterator[list[Worker]]:
    workers: list[Worker] = []
    yield workers
    for worker in workers:
        worker.end()


def statuses(workers: list[Worker]) -> list[dict[str, Any]]:
    found = []
    for worker in workers:
        for address in worker.addresses() if worker.process.poll() is None else ():
            try:
                found += httpx.get(f"{address}/v1/status", timeout=10).json().values()
            except httpx.HTTPError:
                continue
    return found


def test_versions_side_by_side_and_a_follower_elsewhere(kafka: str, tmp_path: Path, running: list[Worker]) -> None:
    old = Repository(kafka, tmp_path / "old", "rolling_old", OLD)
    new = Repository(kafka, tmp_path / "new", "rolling_new", NEW, old.path)
    books = Repository(kafka, tmp_path / "books", "rolling_books", FOLLOWER)
    assert not (books.path / "schemas" / "rolling.event.avsc").exists()
    for repository in (old, books):
        repository.run("topics", "create", str(repository.file), "--bootstrap", kafka, "--partitions", "4")

    def start(repository: Repository, home: str) -> Worker:
        worker = repository.worker(home)
        running.append(worker)
        until(f"{home} serves", worker.addresses)
        return worker

    first, _ = start(old, "a"), start(books, "books")
    senders = [Sender(old, lambda n: f"{KEYS[n % len(KEYS)]} {n % 7}")]
    try:
        second = start(new, "b")
        senders.append(Sender(new, lambda n: f"{KEYS[n % len(KEYS)]} {'cancel' if n % 5 == 4 else n % 3}"))
        until("both send", lambda: all(len(sender.sent) > 40 for sender in senders))
        second.kill()
        until(
            "the old worker waits for what only new code knows",
            lambda: any("code that has it" in text for each in statuses([first]) for text in each["waiting"].values()),
        )
        start(new, "b")
        until("both send on", lambda: all(len(sender.sent) > 120 for sender in senders))
    finally:
        for sender in senders:
            sender.stop()
    assert first.stop() == 0
    start(new, "a")
    sent = [line.split()[1] for sender in senders for line in sender.sent]
    placed = sum(int(amount) for amount in sent if amount != "cancel")

    def turnover() -> int:
        address = running[1].addresses()[0]
        rows = json.loads(httpx.get(f"{address}/v1/tables/rolling_turnover?limit=100", timeout=30).text)["rows"]
        return sum(row["row"]["amount"] for row in rows)

    until("the follower has all that was placed", lambda: turnover() == placed)
    assert all(not each["parked"] and not each["waiting"] for each in statuses(running))
    new.verify()
    books.verify()

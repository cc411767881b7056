"""How long a service is away after SIGKILL: `python -m tests.faults.runs.restarts`, or `make restarts`.

From the kill to the first event of one of the killed worker's partitions, with a command sent every 20 ms, for: a
restart in the same slot with its tables on disk; the same without them; another worker taking over with a standby.

The broker has the local broker's short times, or with --broker-defaults those that Kafka has by itself: then it looks
for transactions that have timed out every 10 s, not every second.
"""

from __future__ import annotations

import argparse
import re
import shutil
import threading
import time

import httpx
from confluent_kafka import Consumer, TopicPartition
from rich.console import Console
from rich.table import Table

from pipeline.adapters.kafka import READING, end_offsets
from pipeline.adapters.kafka.owners import address
from pipeline.broker import local
from pipeline.client import Client
from pipeline.engine.ports import TP
from pipeline.model.records.partitioning import partition_of
from tests.helpers.support import Shop, Worker, shop_of_its_own, until
from topologies.users import ChangeName, RegisterUser

PROBE_S = 0.02
PATIENCE_S = 300.0
KEYS = {partition_of(f"u{n}".encode(), 4): f"u{n}" for n in range(100)}  # one of each partition


class Probe(threading.Thread):
    """Renames a user of every partition, again and again."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(daemon=True)
        self._shop, self.done = shop, threading.Event()

    def run(self) -> None:
        client = Client(self._shop.bootstrap, self._shop.topology)
        number = 0
        while not self.done.wait(PROBE_S):
            number += 1
            for key in KEYS.values():
                client.send("users", key, ChangeName(f"name {number}"))
        client.flush()


def first_event_s(shop: Shop, since: float, partitions: set[int]) -> float:
    """Seconds from `since` until an event is visible on each of those partitions that was not there at the start."""
    tps = [TP("users.event", n) for n in partitions]
    consumer = Consumer(READING | {"bootstrap.servers": shop.bootstrap, "group.id": "restarts"})
    consumer.assign([TopicPartition(*tp, end) for tp, end in end_offsets(shop.admin, tps).items()])
    try:
        while partitions:
            assert time.monotonic() - since < PATIENCE_S
            message = consumer.poll(0.01)
            if message is not None and message.error() is None:
                partitions = partitions - {message.partition()}
        return time.monotonic() - since
    finally:
        consumer.close()


def restart(shop: Shop, worker: Worker, *arguments: str, cold: bool) -> tuple[Worker, float]:
    """Kills the worker and starts it again at once."""
    killed = time.monotonic()
    worker.kill()
    if cold:
        shutil.rmtree(shop.home / "state")
    again = shop.worker(*arguments)
    return again, first_event_s(shop, killed, {0, 1, 2, 3})


def restore_rate(worker: Worker) -> float:
    """Records a second of the last restore, of all partitions together."""
    parts = re.findall(r"(\d+) records rolled forward in ([\d.]+) s", worker.log.read_text())
    return sum(int(records) for records, _ in parts) / max(float(seconds) for _, seconds in parts)


def settled(shop: Shop, worker: Worker) -> bool:
    """Whether the worker has its share, which is half, and follows the rest closely."""
    if not worker.addresses():
        return False
    url = worker.addresses()[0]
    status = httpx.get(f"{url}/v1/status").json()["users"]
    half = shop.partitions("users") // 2
    if (status["assigned"], status["standbys"], status["restoring"]) != (half, half, 0):
        return False
    answers = [httpx.get(f"{url}/v1/tables/users/{key}?consistency=eventual") for key in KEYS.values()]
    return all(answer.status_code == 200 and answer.json()["age_s"] < 2 for answer in answers)


def held_by(shop: Shop, worker: Worker) -> set[int]:
    """Numbers of the partitions that a worker owns."""
    group = shop.admin.describe_consumer_groups(["users"])["users"].result(30)
    mine = [member for member in group.members if address(member.client_id) == worker.addresses()[0]]
    return {tp.partition for member in mine for tp in member.assignment.topic_partitions}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--keys", type=int, default=1_000_000)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument(
        "--broker-defaults", action="store_true", help="a broker with the times that Kafka has by itself"
    )
    options = asked.parse_args()
    console = Console()
    times = "" if options.broker_defaults else local.SHORT_TIMES
    broker = "Kafka's default times" if options.broker_defaults else "the local broker's times"
    with shop_of_its_own("restarts-", console.print, times) as shop:
        probe = Probe(shop)
        figures: dict[str, list[float]] = {"restart, warm": [], "restart, cold": [], "takeover by a standby": []}
        rates = []
        try:
            service = ("--service", "users")
            worker = shop.worker(*service, "--slot", "0")
            with console.status(f"registering {options.keys:,} users …"):
                client = Client(shop.bootstrap, shop.topology)
                for n in range(options.keys):
                    client.send("users", f"u{n}", RegisterUser(f"name {n}", "France"))
                client.flush()
                with shop.watcher() as watcher:
                    until("registered", lambda: watcher.look()[0]["users"].committed >= options.keys, PATIENCE_S)
            probe.start()
            for _ in range(options.rounds):
                worker, seconds = restart(shop, worker, *service, "--slot", "0", cold=False)
                figures["restart, warm"].append(seconds)
                worker, seconds = restart(shop, worker, *service, "--slot", "0", cold=True)
                figures["restart, cold"].append(seconds)
                rates.append(restore_rate(worker))
            worker.kill()
            shutil.rmtree(shop.home / "state")
            pair = [shop.worker(*service, "--standby", "--slot", slot) for slot in "01"]
            for number in range(options.rounds):
                until("all share, and follow", lambda: all(settled(shop, each) for each in pair), PATIENCE_S)
                held = held_by(shop, pair[number % 2])
                killed = time.monotonic()
                pair[number % 2].kill()
                figures["takeover by a standby"].append(first_event_s(shop, killed, held))
                pair[number % 2] = shop.worker(*service, "--standby", "--slot", str(number % 2))
            shown = Table(
                "what", "min", "median", "max", title=f"seconds from SIGKILL, {options.keys:,} keys, {broker}"
            )
            for what, seconds_each in figures.items():
                ordered = sorted(seconds_each)
                shown.add_row(what, *(f"{s:.2f}" for s in (ordered[0], ordered[len(ordered) // 2], ordered[-1])))
            console.print(shown)
            console.print(f"cold restore: {sorted(rates)[len(rates) // 2]:,.0f} records/s (median)")
        finally:
            probe.done.set()


if __name__ == "__main__":
    main()

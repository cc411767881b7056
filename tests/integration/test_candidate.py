"""The side-by-side candidate on a real broker: each command is answered once, rightly, and again after a kill."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from benchmarks.environment import SCHEMAS, Place
from benchmarks.peers.accounts import NEW, Command, Event, State, decide, evolve
from benchmarks.peers.commands import commands
from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.kafka import READING, admin
from pipeline.adapters.kafka.topic_settings import DAY_MS, Difference, mend
from tests.helpers.support import until

COUNT, KEYS = 4_000, 150


class Candidate:
    """The candidate in a process of its own, on the topics of a place."""

    def __init__(self, place: Place, home: Path) -> None:
        for kind in ("command", "event", "state"):
            (home / f"{kind}.avsc").write_text((SCHEMAS / f"accounts.{kind}.avsc").read_text())
        self.environment = {
            **os.environ,
            "BOOTSTRAP": place.bootstrap,
            "COMMAND_TOPIC": place.command,
            "EVENT_TOPIC": place.event,
            "CHANGELOG_TOPIC": place.changelog,
            "STATE_DIR": str(home / "state"),
            "GROUP": place.group,
            "COMMIT_MS": "100",
            "SCHEMA_DIR": str(home),
            "N": str(COUNT),
        }
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "benchmarks.peers.candidate"], env=self.environment)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def read(place: Place, topic: str, codec: Codec) -> list[tuple[bytes, int, object]]:
    """(key, partition, value) of all committed records."""
    consumer = Consumer(READING | {"bootstrap.servers": place.bootstrap, "group.id": "test-candidate"})
    consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(place.partitions)])
    found, ends = [], 0
    while ends < place.partitions:
        for message in consumer.consume(1000, 0.2):
            if message.error() is None:
                found.append((message.key(), message.partition(), codec.decode(message.value())))
            else:
                ends += 1
    consumer.close()
    return found


def test_each_command_is_answered_once_and_rightly_though_it_is_killed(kafka: str, tmp_path: Path) -> None:
    place, registry = Place(kafka), Registry(SCHEMAS)
    events, states = (Codec(registry, f"accounts.{k}", cls) for k, cls in (("event", Event), ("state", State)))
    stream = list(commands(2 * COUNT, KEYS))
    expected, accounts = Counter[Event](), dict.fromkeys((each.account_id for each in stream), NEW)
    for each in stream:
        (event,) = decide(each, accounts[each.account_id])
        accounts[each.account_id] = evolve(accounts[each.account_id], event)
        expected[event] += 1

    def answered(count: int) -> bool:
        return len(read(place, place.event, events)) >= count

    brokers_own = [
        Difference(place.event, "retention.ms", "-1", str(7 * DAY_MS), True),
        Difference(place.command, "message.timestamp.type", "LogAppendTime", "CreateTime", False),
    ]
    mend(admin(kafka), brokers_own)  # the harness makes topics without naming any
    worker = Candidate(place, tmp_path)
    try:
        place.feed(stream[:COUNT])
        until("the first half is answered", lambda: answered(COUNT))
        place.feed(stream[COUNT:])
        worker.end(signal.SIGKILL)
        worker.start()
        until("all is answered", lambda: answered(2 * COUNT))
    finally:
        code = worker.end(signal.SIGTERM)
    assert code == 0
    found = read(place, place.event, events)
    assert Counter(event for _, _, event in found) == expected
    assert all(key.decode() == event.account_id for key, _, event in found)  # type: ignore[attr-defined]
    table = {key.decode(): state for key, _, state in read(place, place.changelog, states)}
    assert table == accounts
    homes = {partition: key for key, partition, _ in found}
    assert len(homes) == place.partitions
    place.clear()


def test_its_commands_are_the_contracts(tmp_path: Path) -> None:
    registered = json.loads((SCHEMAS / "manifest.json").read_text())["schemas"]
    assert [(entry["id"], entry["topic"]) for entry in registered] == [
        (1, "accounts.command"),
        (2, "accounts.event"),
        (3, "accounts.state"),
    ]
    assert Command._fields == tuple(field["name"] for field in registered[0]["schema"]["fields"])

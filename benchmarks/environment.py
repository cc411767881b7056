"""Where a benchmark runs: a broker, fresh topics, the accounts on them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from confluent_kafka import Producer

from benchmarks.peers.accounts import Command, Event, service
from benchmarks.peers.contract import BareCodec, bare_codecs
from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.kafka import KafkaGroupConsumer, KafkaLogReader, KafkaProducer, admin
from pipeline.adapters.kafka.topics import create_topics, delete_services
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.broker import local
from pipeline.engine.context import LanePorts
from pipeline.engine.loop.lane import Lane
from pipeline.engine.plan import ServicePlan
from pipeline.model import EventMessage
from pipeline.topology import Topology
from pipeline.worker.settings import MachineClock

SCHEMAS = Path(__file__).parent / "peers" / "schemas"


@contextmanager
def local_broker(bootstrap: str | None) -> Iterator[str]:
    """The address given; else that of a broker of its own, which is stopped and thrown away afterwards."""
    if bootstrap is not None:
        yield bootstrap
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-") as home:
        broker = local.up(Path(home), say=lambda _: None)
        try:
            yield broker.bootstrap
        finally:
            local.down(Path(home))


class ShopWorker:
    """A worker process of some of the shop's services, with its tables and its log under `home`. `options`: more."""

    def __init__(self, bootstrap: str, home: Path, *services: str, options: Sequence[str] = ()) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._log = home / "worker.log"
        names = [part for service in services for part in ("--service", service)]
        self._command = [sys.executable, "-m", "pipeline", "worker", "topologies", *names]
        self._command += ["--bootstrap", bootstrap, "--home", str(home), *options]
        self.start()

    def start(self) -> None:
        """Starts it, or starts it again; its log begins anew."""
        with self._log.open("w") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=out)

    def url(self) -> str:
        """Where it serves, once it does. RuntimeError where it ends instead."""
        while " at http://" not in self._log.read_text():
            if self._process.poll() is not None:
                raise RuntimeError(f"the worker has ended: {self._log.read_text()}")
            time.sleep(0.1)
        return "http://" + self._log.read_text().split(" at http://")[1].split()[0]

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """SIGTERM."""
        self._process.terminate()
        self._process.wait(30)


def named(group: str) -> dict[str, str]:
    """What topics and group of the accounts are called that belong to `group`."""
    return {"accounts": group} | {f"accounts.{k}": f"{group}.{k}" for k in ("command", "event", "state", "parked")}


class Place:
    """The accounts on topics of their own; with `group`, on those that another process has made under that name."""

    def __init__(self, bootstrap: str, partitions: int = 4, group: str = "") -> None:
        self.bootstrap, self.partitions = bootstrap, partitions
        self.group = group or f"accounts-{uuid.uuid4().hex[:8]}"
        names = named(self.group)
        self.command, self.event, self.changelog = (names[f"accounts.{k}"] for k in ("command", "event", "state"))
        self.topology = Topology("accounts", {"accounts": service}, SCHEMAS, names)
        self.plan = ServicePlan(service, bare_codecs(SCHEMAS), names)
        self.events = BareCodec(Registry(SCHEMAS), "accounts.event", EventMessage, Event, strict=True)
        if not group:
            create_topics(admin(bootstrap), [self.plan], partitions, 1)

    def feed(self, stream: Iterable[Command]) -> None:
        """Sends commands; returns when all are stored."""
        encode = Codec(Registry(SCHEMAS), "accounts.command", Command).encode
        config = {"bootstrap.servers": self.bootstrap, "partitioner": "murmur2_random", "linger.ms": 20}
        producer = Producer({**config, "batch.size": 256 * 1024})
        for command in stream:
            while True:
                try:
                    producer.produce(self.command, encode(command), command.account_id)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush()

    def lane(self, state: Path, slot: int) -> Lane:
        """The engine on these topics, to be driven turn by turn, with its tables under `state`."""
        name = f"{self.group}-{slot}"
        _, stores = claim_slot(state, "accounts", slot)
        consumer = KafkaGroupConsumer(self.bootstrap, self.group, name, name)
        producer = KafkaProducer(self.bootstrap, name)
        reader = KafkaLogReader(self.bootstrap, f"{name}-reader")
        replays = partial(KafkaLogReader, self.bootstrap, f"{name}-replay")
        return Lane(self.plan, LanePorts(consumer, producer, reader, stores, MachineClock(), replays))

    def clear(self) -> None:
        """Deletes the topics with all they hold."""
        delete_services(admin(self.bootstrap), [self.plan])

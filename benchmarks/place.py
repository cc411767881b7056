"""Where a benchmark runs: a broker, fresh topics, the accounts on them."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Producer

from benchmarks.accounts import Command, Event, service
from benchmarks.contract import BareCodec, bare_codecs
from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.kafka import admin
from pipeline.adapters.topics import create_topics
from pipeline.broker import local
from pipeline.model import EventMessage
from pipeline.runtime.wiring import Wiring
from pipeline.topology import Topology

SCHEMAS = Path(__file__).with_name("schemas")


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


class Place:
    """The accounts on topics of their own."""

    def __init__(self, bootstrap: str, partitions: int = 4) -> None:
        self.bootstrap, self.partitions = bootstrap, partitions
        self.group = f"accounts-{uuid.uuid4().hex[:8]}"
        kinds = ("command", "event", "state", "parked")
        names = {"accounts": self.group} | {f"accounts.{kind}": f"{self.group}.{kind}" for kind in kinds}
        self.command, self.event, self.changelog = (names[f"accounts.{kind}"] for kind in kinds[:3])
        self.topology = Topology("accounts", {"accounts": service}, SCHEMAS, names)
        self.wiring = Wiring(service, bare_codecs(SCHEMAS), names)
        create_topics(admin(bootstrap), [self.wiring], partitions, 1)

    def codec(self, _: str) -> BareCodec:
        """The codec of the events."""
        return BareCodec(Registry(SCHEMAS), "accounts.event", EventMessage, Event, strict=True)

    def feed(self, stream: Iterable[Command]) -> None:
        """Sends commands; returns when all are stored."""
        encode = Codec(Registry(SCHEMAS), "accounts.command", Command).encode
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "batch.size": 256 * 1024,
            }
        )
        for command in stream:
            while True:
                try:
                    producer.produce(self.command, encode(command), command.account_id)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush()

"""Replies of a service that is newer than its client: what both know is told, and the schema looked up once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.generation import Request, generate
from pipeline.adapters.kafka.schemas.topic import SchemasTopic
from pipeline.client.learning import ReplyReader
from pipeline.client.wire.outcome import outcome_of
from pipeline.errors import BrokerUnreachable
from pipeline.model import Acceptance, EventMessage, Parked, Rejected, ReplyMessage

TOPIC = "orders.event"
Paid = dataclasses.make_dataclass("Paid", [("amount", int)], frozen=True, slots=True)
NewPaid: Any = dataclasses.make_dataclass("Paid", [("amount", int), ("by", str, "card")], frozen=True, slots=True)
Refunded: Any = dataclasses.make_dataclass("Refunded", [("amount", int)], frozen=True, slots=True)


def codec(path: Path, body: Any) -> Codec:
    path.mkdir()
    (path / f"{TOPIC}.avsc").write_text(json.dumps(generate(Request(TOPIC, EventMessage, body))))
    Registry(path).register()
    return Codec(Registry(path), TOPIC, EventMessage, body)


class Topic:
    """Stands for the topic: the registry learns what the new service writes with."""

    def __init__(self, old: Codec, new: Codec) -> None:
        self.old, self.new, self.looks, self.away = old, new, 0, False

    def catch_up(self, _: float) -> None:
        self.looks += 1
        if self.away:
            raise BrokerUnreachable("away")
        for each in self.new._registry.versions([TOPIC]):
            self.old._registry.learn(each.id, each.topic, each.schema)


@pytest.fixture
def topic(tmp_path: Path) -> Topic:
    return Topic(codec(tmp_path / "old", Paid), codec(tmp_path / "new", NewPaid | Refunded))


def told(topic: Topic, *events: Any) -> Any:
    """The outcome that the old client has of a reply of the new service."""
    reply = Codec(topic.old._registry, "reply", ReplyMessage, Acceptance | Rejected | Parked)
    encoded = tuple(topic.new.encode(EventMessage(1, "c", "c", 0, event)) for event in events)
    message = ReplyMessage("c", "orders", 0, 7, 1, 1, 9, Acceptance(len(events), len(events), encoded))
    reader = ReplyReader(reply.decode, {"orders": topic.old.decode}, cast(SchemasTopic, topic))
    for _ in range(2):
        read = reader.decode(reply.encode(message))
    return outcome_of(read, {"orders": topic.old.decode})


def test_what_the_client_does_not_know_is_left_out_and_said_so(topic: Topic) -> None:
    outcome = told(topic, NewPaid(5), Refunded(3))
    assert outcome.events == (Paid(5),)
    assert outcome.version == 2
    assert not outcome.complete
    assert topic.looks == 1


def test_a_field_more_is_nothing_that_lacks(topic: Topic) -> None:
    outcome = told(topic, NewPaid(5))
    assert outcome.events == (Paid(5),)
    assert outcome.complete


def test_a_broker_that_is_away_costs_the_events_and_not_the_outcome(topic: Topic) -> None:
    topic.away = True
    outcome = told(topic, NewPaid(5))
    assert (outcome.version, outcome.events, outcome.complete) == (1, (), False)
    assert topic.looks == 1

"""Records that another repository writes: its schema is learned, and the reader has only the classes that it wants."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest

from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.generation import Request, generate
from pipeline.errors import NotKnownYet, SchemaError, UndecodableRecord
from pipeline.model import EventMessage
from pipeline.model.fields import Precision, Renamed, renamed
from pipeline.verify.sources.decode import Decoder
from tests.unit.adapters.test_codec import IMPLEMENTATIONS

TOPIC = "orders.event"
Read = Callable[[Any], Any]


class Tier(Enum):
    BASIC = 1
    GOLD = 2


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    id: str
    total: Annotated[Decimal, Precision(9, 2)]
    tier: Tier
    lines: tuple[int, ...]
    at: datetime
    note: str | None = None


@dataclass(frozen=True, slots=True)
class OrderCancelled:
    id: str


@dataclass(frozen=True, slots=True)
class OrderShipped:
    id: str


AT = datetime(2026, 1, 1, tzinfo=UTC)
PLACED = OrderPlaced("o", Decimal("1.50"), Tier.GOLD, (1, 2), AT, "now")


def other(name: str, *fields: Any) -> Any:
    """A class of the follower's own, of the same name as the writer's."""
    return dataclasses.make_dataclass(name, fields, frozen=True, slots=True)


class World:
    """Two repositories. `theirs` has nothing of the writer's until it learns it."""

    def __init__(self, tmp_path: Path, native: bool) -> None:
        self.mine, self.theirs, self.native = tmp_path / "mine", tmp_path / "theirs", native
        self.mine.mkdir()
        self.theirs.mkdir()
        self.codec: Any = None

    def writes(self, body: Any) -> None:
        """From now on the writer has these classes."""
        schema = generate(Request(TOPIC, EventMessage, body, namespace="shop"))
        (self.mine / f"{TOPIC}.avsc").write_text(json.dumps(schema))
        Registry(self.mine).register()
        self.codec = Codec(Registry(self.mine), TOPIC, EventMessage, body, native=self.native)

    def reads(self, body: Any, *, strict: bool = False) -> Read:
        """Return what reads an event, as the codec does and `verify`, which must agree; None if it is skipped."""
        registry = Registry(self.theirs)
        for each in Registry(self.mine).versions([TOPIC]):
            registry.learn(each.id, each.topic, each.schema)
        codec = Codec(registry, TOPIC, EventMessage, body, strict=strict, native=self.native)
        decoder = Decoder(registry, TOPIC, EventMessage, body, follows=not strict)

        def read(event: Any) -> Any:
            data = self.codec.encode(EventMessage(1, "c", "r", 7, event))
            message, again = codec.decode(data), decoder.value(data)
            assert getattr(message, "body", None) == getattr(again, "body", None)
            assert message is None or message[:4] == (1, "c", "r", 7)
            return None if message is None else message.body

        return read


@pytest.fixture(params=IMPLEMENTATIONS, ids=("native" if each else "python" for each in IMPLEMENTATIONS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, request.param)


def test_the_classes_alone_are_enough(world: World) -> None:
    world.writes(OrderPlaced | OrderCancelled)
    read = world.reads(OrderPlaced | OrderCancelled)
    assert read(PLACED) == PLACED
    assert read(OrderCancelled("o")) == OrderCancelled("o")


def test_what_has_no_class_is_skipped_and_fields_that_are_not_wanted_left_out(world: World) -> None:
    world.writes(OrderShipped | OrderPlaced | OrderCancelled)
    cls = other("OrderPlaced", ("total", Annotated[Decimal, Precision(9, 2)]), ("tier", str), ("at", int))
    read = world.reads(cls)
    assert read(PLACED) == cls(Decimal("1.50"), "GOLD", int(AT.timestamp()) * 1_000_000)
    assert read(OrderShipped("o")) is None
    assert read(OrderCancelled("o")) is None


def test_what_the_writer_has_not_yet_has_its_default_and_a_new_class_no_records(world: World) -> None:
    world.writes(OrderPlaced | OrderCancelled)
    cls = other("OrderCancelled", ("id", str), ("why", str, field(default="unknown")))
    read = world.reads(OrderShipped | cls)
    assert read(OrderCancelled("o")) == cls("o", "unknown")
    assert read(PLACED) is None


def test_renames_are_followed(world: World) -> None:
    world.writes(OrderPlaced | OrderCancelled)
    cls = renamed("OrderCancelled")(other("OrderGone", ("key", Annotated[str, Renamed("id")])))
    assert world.reads(cls)(OrderCancelled("o")) == cls("o")


def test_a_symbol_more_is_no_refusal_to_load_and_only_records_that_have_it_are_not_known_yet(world: World) -> None:
    world.writes(OrderPlaced | OrderCancelled)
    cls = other("OrderPlaced", ("id", str), ("tier", Enum("Tier", ["BASIC"])))
    read = world.reads(cls)
    assert read(dataclasses.replace(PLACED, tier=Tier.BASIC)).tier.name == "BASIC"
    with pytest.raises(NotKnownYet, match="GOLD") as raised:
        read(PLACED)
    assert raised.value.published


def test_the_writer_may_change_before_its_followers(world: World) -> None:
    world.writes(OrderPlaced | OrderCancelled)
    early = world.codec.encode(EventMessage(1, "c", "r", 7, OrderCancelled("o")))
    cls = other("OrderCancelled", ("id", str), ("why", str | None, field(default=None)))
    world.writes(OrderPlaced | cls | OrderShipped)
    read = world.reads(OrderCancelled | OrderPlaced)
    assert read(cls("o", "late")) == OrderCancelled("o")
    assert read(OrderShipped("o")) is None
    world.codec = type("Early", (), {"encode": lambda self, _: early})()
    assert read(None) == OrderCancelled("o")


def test_a_decimal_of_another_scale_is_exact_or_refused_and_never_another_number(world: World) -> None:
    world.writes(OrderPlaced | OrderCancelled)
    cls = other("OrderPlaced", ("total", Annotated[Decimal, Precision(9, 3)]))
    assert world.reads(cls)(PLACED) == cls(Decimal("1.50"))
    with_more = other("OrderPlaced", ("total", Annotated[Decimal, Precision(9, 3)]), ("x", int, field(default=1)))
    with pytest.raises(NotKnownYet, match="mean something else"):
        world.reads(with_more)(PLACED)


def test_an_owner_skips_nothing(world: World) -> None:
    world.writes(OrderPlaced | OrderCancelled)
    (world.theirs / f"{TOPIC}.avsc").write_text((world.mine / f"{TOPIC}.avsc").read_text())
    Registry(world.theirs).register()
    world.writes(OrderPlaced | OrderCancelled | OrderShipped)
    registry = Registry(world.theirs)
    codec = Codec(registry, TOPIC, EventMessage, OrderPlaced | OrderCancelled, native=world.native)
    data = world.codec.encode(EventMessage(1, "c", "r", 7, OrderShipped("o")))
    with pytest.raises(NotKnownYet, match=r"unknown schema id \d+.*pipeline schemas publish") as raised:
        codec.decode(data)
    assert not raised.value.published
    (*_, newest) = Registry(world.mine).versions([TOPIC])
    registry.learn(newest.id, newest.topic, newest.schema)
    with pytest.raises(NotKnownYet, match=r"OrderShipped.*start this service with code that has it") as raised:
        codec.decode(data)
    assert raised.value.published
    assert codec.decode(world.codec.encode(EventMessage(1, "c", "r", 7, PLACED))).body == PLACED


def test_bytes_that_are_no_record_of_a_learned_schema_are_refused(world: World) -> None:
    world.writes(OrderPlaced | OrderCancelled)
    data = world.codec.encode(EventMessage(1, "c", "r", 7, PLACED))
    cls = other("OrderPlaced", ("id", str), ("x", int, field(default=1)))  # read by rewriting
    for body in (OrderPlaced, cls):
        registry = Registry(world.theirs)
        (each,) = Registry(world.mine).versions([TOPIC])
        registry.learn(each.id, each.topic, each.schema)
        codec = Codec(registry, TOPIC, EventMessage, body, strict=False, native=world.native)
        for end in range(len(data)):
            with pytest.raises(UndecodableRecord) as raised:
                codec.decode(data[:end])
            assert not isinstance(raised.value, NotKnownYet)


def test_an_owner_needs_its_file(world: World) -> None:
    with pytest.raises(SchemaError, match="no schema"):
        world.reads(OrderPlaced, strict=True)


def test_an_id_that_does_not_follow_from_its_schema_is_not_learned(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    with pytest.raises(SchemaError, match="does not follow"):
        registry.learn(random.randrange(1_000_000, 10_000_000), TOPIC, "string")
    with pytest.raises(SchemaError, match="no Avro schema"):
        registry.learn(7, TOPIC, {"type": "nothing"})
    registry.learn(7, TOPIC, "string")
    registry.learn(7, TOPIC, "bytes")
    assert registry.written_with(7, TOPIC) == "string"

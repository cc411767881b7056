"""Records of newer code, as the code reads them that has not got it: none is skipped, or read as something else."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.compatibility import breaks
from pipeline.adapters.avro.schemas.generation import Request, generate
from pipeline.adapters.avro.wire.identity import schema_id
from pipeline.errors import NotKnownYet, SchemaError, UndecodableRecord
from pipeline.model import EventMessage
from pipeline.model.fields import Renamed, renamed
from pipeline.verify.sources.decode import Decoder
from tests.unit.adapters.test_codec import IMPLEMENTATIONS
from tests.unit.adapters.test_followers import TOPIC, World, other


@dataclass(frozen=True, slots=True)
class Driven:
    km: int


@dataclass(frozen=True, slots=True)
class Washed:
    with_soap: bool = True


@dataclass(frozen=True, slots=True)
class ShortTrip:
    km: int


@renamed("Driven")
@dataclass(frozen=True, slots=True)
class TripMade:
    km: int


@pytest.fixture(params=IMPLEMENTATIONS, ids=("native" if each else "python" for each in IMPLEMENTATIONS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, request.param)


def has(world: World, body: Any) -> None:
    """Give the reader's repository the file of these classes, registered; the writer has had them, too."""
    world.writes(body)
    (world.theirs / f"{TOPIC}.avsc").write_text((world.mine / f"{TOPIC}.avsc").read_text())
    Registry(world.theirs).register()


def waits(read: Any, event: Any, why: str) -> None:
    with pytest.raises(NotKnownYet, match=why) as raised:
        read(event)
    assert raised.value.published


def refuses(world: World, body: Any, event: Any) -> None:
    """Verify's reader must not skip it either."""
    registry = Registry(world.theirs)
    for each in Registry(world.mine).versions([TOPIC]):
        registry.learn(each.id, each.topic, each.schema)
    with pytest.raises(UndecodableRecord):
        Decoder(registry, TOPIC, EventMessage, body, follows=True).value(
            world.codec.encode(EventMessage(1, "c", "r", 7, event))
        )


@pytest.mark.parametrize("follows", [Driven, Driven | Washed])
def test_a_kind_that_the_own_file_lacks_is_waited_for_and_one_that_it_has_may_be_skipped(
    world: World, follows: Any
) -> None:
    has(world, Driven | Washed)
    world.writes(Driven | Washed | ShortTrip)
    read = world.reads(follows)
    waits(read, ShortTrip(3), "ShortTrip.*start this service with code that has it")
    refuses(world, follows, ShortTrip(3))
    assert read(Driven(7)) == Driven(7)
    assert read(Washed()) == (Washed() if follows != Driven else None)


def test_a_first_kind_beside_the_only_one_is_waited_for(world: World) -> None:
    has(world, Driven)
    world.writes(Driven | ShortTrip)
    read = world.reads(Driven)
    waits(read, ShortTrip(3), "ShortTrip")
    assert read(Driven(7)) == Driven(7)


def test_kinds_of_versions_that_were_released_here_are_skipped(world: World) -> None:
    has(world, Driven | ShortTrip)
    old = world.codec
    schema = generate(Request(TOPIC, EventMessage, Driven, namespace="shop"))
    (world.theirs / f"{TOPIC}.avsc").write_text(json.dumps(schema))
    Registry(world.theirs).register([TOPIC])
    read = world.reads(Driven)
    world.codec = old
    assert read(ShortTrip(3)) is None
    assert read(Driven(7)) == Driven(7)


@pytest.mark.parametrize("strict", [False, True])
def test_a_kind_with_a_new_name_is_read_by_the_old_one(world: World, strict: bool) -> None:
    has(world, Driven | Washed)
    world.writes(TripMade | Washed)
    assert world.reads(Driven | Washed, strict=strict)(TripMade(7)) == Driven(7)


@pytest.mark.parametrize("follows", [Driven, Driven | Washed])
def test_a_follower_elsewhere_knows_a_kind_by_its_old_name(world: World, follows: Any) -> None:
    world.writes(TripMade | Washed | ShortTrip)
    read = world.reads(follows)
    assert read(TripMade(7)) == Driven(7)
    assert read(ShortTrip(7)) is None
    assert read(Washed()) == (Washed() if follows != Driven else None)


def test_the_only_kind_may_have_a_new_name(world: World) -> None:
    world.writes(TripMade)
    assert world.reads(Driven)(TripMade(7)) == Driven(7)


@pytest.mark.parametrize("own", [False, True])
def test_fields_and_inner_records_are_known_by_their_old_names(world: World, own: bool) -> None:
    old_line = other("Line", ("code", str, field(default="none")))
    new_line = renamed("Line")(other("OrderLine", ("sku", Annotated[str, Renamed("code")], field(default="none"))))
    old = other("Sold", ("line", old_line), ("amount", int, field(default=0)))
    new = other("Sold", ("line", new_line), ("total", Annotated[int, Renamed("amount")], field(default=0)))
    if own:
        has(world, old)
    world.writes(new)
    assert world.reads(old, strict=own)(new(new_line("tea"), 7)) == old(old_line("tea"), 7)


def test_a_field_with_both_names_keeps_them_apart(world: World) -> None:
    new = other("Driven", ("way", Annotated[int, Renamed("km")]), ("km", int, field(default=1)))
    world.writes(new)
    assert world.reads(Driven)(new(7, 2)) == Driven(2)


def test_a_name_that_has_come_to_be_another_kinds_is_waited_for(world: World) -> None:
    before = renamed("Driven")(other("DrivenV1", ("km", int), ("toll", int)))
    world.writes(Driven | before)
    follower = other("Driven", ("km", int), ("toll", int, field(default=0)))
    waits(world.reads(follower), Driven(7), "Driven has come to be another, and its records of before are 'DrivenV1'")
    told = renamed("Driven")(other("DrivenThen", ("km", int), ("toll", int)))
    assert world.reads(Driven | told)(Driven(7)) == Driven(7)


@pytest.mark.parametrize("own", [False, True])
def test_a_newer_branch_inside_of_a_message_is_waited_for_and_not_read_as_nothing(world: World, own: bool) -> None:
    card, cash, cheque = (other(name, ("amount", int)) for name in ("Card", "Cash", "Cheque"))
    old, new = other("Paid", ("by", card | cash)), other("Paid", ("by", card | cash | cheque))
    if own:
        has(world, old)
    world.writes(new)
    read = world.reads(old)
    waits(read, new(cheque(7)), "Cheque")
    assert read(new(cash(7))) == old(cash(7))


# --- the texts of a Literal -------------------------------------------------------------------------------------------


def parcel(*texts: str) -> Any:
    return other("Parcel", ("kind", Literal[texts]))


LESS, MORE = parcel("letter", "box"), parcel("letter", "box", "pallet")


@pytest.mark.parametrize("strict", [False, True])
def test_a_text_more_is_waited_for(world: World, strict: bool) -> None:
    has(world, LESS)
    world.writes(MORE)
    read = world.reads(LESS, strict=strict)
    waits(read, MORE("pallet"), "no 'pallet'|without pallet")
    assert read(MORE("box")) == LESS("box")


def test_a_follower_elsewhere_waits_for_a_text_more(world: World) -> None:
    world.writes(MORE)
    read = world.reads(LESS)
    waits(read, MORE("pallet"), "has no 'pallet'")
    assert read(MORE("box")) == LESS("box")
    more = other("Parcel", ("kind", Literal["letter", "box"]), ("x", int, field(default=1)))  # read by rewriting
    waits(world.reads(more), MORE("pallet"), "without pallet")


def test_a_text_of_a_released_schema_that_is_none_of_its_texts_is_not_waited_for(world: World) -> None:
    has(world, LESS)
    data = world.codec.encode(EventMessage(1, "c", "r", 7, LESS("box"))).replace(b"box", b"bag")
    codec = Codec(Registry(world.theirs), TOPIC, EventMessage, LESS, native=world.native)
    with pytest.raises(UndecodableRecord, match="bag") as raised:
        codec.decode(data)
    assert not isinstance(raised.value, NotKnownYet)


def test_where_a_schema_does_not_say_its_texts_newer_code_may_have_written_them(world: World) -> None:
    world.writes(other("Parcel", ("kind", str)))
    codec = Codec(Registry(world.mine), TOPIC, EventMessage, LESS, native=world.native)
    data = world.codec.encode(EventMessage(1, "c", "r", 7, other("Parcel", ("kind", str))("pallet")))
    with pytest.raises(NotKnownYet, match="has no 'pallet'") as raised:
        codec.decode(data)
    assert not raised.value.published  # so that a command which anybody may have sent is parked in the end


def test_texts_are_part_of_a_schema_and_of_no_other(tmp_path: Path) -> None:
    made = generate(Request(TOPIC, EventMessage, LESS))
    (body,) = (each["type"] for each in made["fields"] if each["name"] == "body")
    assert body["fields"][0]["type"] == {"type": "string", "texts": ["letter", "box"]}
    ids = {schema_id(generate(Request(TOPIC, EventMessage, each))) for each in (LESS, parcel("box", "letter"), MORE)}
    assert len(ids) == 2
    assert schema_id({"type": "string", "doc": "x"}) == schema_id("string")


def test_a_text_less_breaks_and_one_more_does_not(world: World) -> None:
    world.writes(LESS)
    assert list(breaks(Registry(world.mine))) == []
    schema = generate(Request(TOPIC, EventMessage, MORE, namespace="shop"))
    (world.mine / f"{TOPIC}.avsc").write_text(json.dumps(schema))
    assert list(breaks(Registry(world.mine))) == []
    world.writes(MORE)
    schema = generate(Request(TOPIC, EventMessage, LESS, namespace="shop"))
    (world.mine / f"{TOPIC}.avsc").write_text(json.dumps(schema))
    (found,) = breaks(Registry(world.mine))
    assert str(found.finding.place) == "Parcel.kind"
    assert found.cure == "keep pallet"


def test_class_and_file_must_have_the_same_texts(world: World) -> None:
    world.writes(LESS)
    for cls, name in ((MORE, "pallet"), (parcel("box"), "letter")):
        with pytest.raises(SchemaError, match=f"a Literal and the texts differ in {name}"):
            Codec(Registry(world.mine), TOPIC, EventMessage, cls, native=world.native)

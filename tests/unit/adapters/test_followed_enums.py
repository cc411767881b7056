"""A follower's Enum may lack symbols of the owner's: it loads, and only a record that has one cannot be read."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.conversions import UnknownSymbol, conversion_for
from pipeline.adapters.avro.registry import Registry
from pipeline.errors import SchemaError, UndecodableRecord
from pipeline.verify.sources.decode import Decoder
from tests.helpers.every_type import record, register
from tests.unit.adapters.test_codec import IMPLEMENTATIONS

ALL = {"type": "enum", "name": "Tone", "symbols": ["LOW", "MID", "HIGH"]}
Tone = Enum("Tone", ["LOW", "HIGH"])
Owned = Enum("Owned", ["LOW", "MID", "HIGH"])
Wrong = Enum("Wrong", ["LOW", "LOUD"])
both = pytest.mark.parametrize("native", IMPLEMENTATIONS)


def holder(hint: Any) -> Any:
    return dataclass(frozen=True)(type("Row", (), {"__annotations__": {"x": hint}}))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(register(tmp_path, {"t": record("Row", x=["null", ALL])}))


@both
@pytest.mark.parametrize(
    ("hint", "known", "lacks"),
    [(Tone | None, Tone.HIGH, "Tone has no 'MID'"), (Literal["LOW", "HIGH"] | None, "HIGH", "has no 'MID'")],
)
def test_only_a_record_with_such_a_symbol_cannot_be_read(
    registry: Registry, native: bool, hint: Any, known: Any, lacks: str
) -> None:
    owner, follower = holder(Owned | None), holder(hint)
    write = Codec(registry, "t", owner, native=native).encode
    read = Codec(registry, "t", follower, strict=False, native=native).decode
    verified = Decoder(registry, "t", follower).value
    for decode in (read, verified):
        assert decode(write(owner(Owned.HIGH))) == follower(known)
        assert decode(write(owner(None))) == follower(None)
        with pytest.raises(UndecodableRecord, match=rf"{lacks}, which the enum of the topic's owner has; add it"):
            decode(write(owner(Owned.MID)))


def test_an_owner_needs_them_all_and_a_follower_no_others(registry: Registry) -> None:
    for strict, cls in ((True, Tone), ("fields", Tone), (False, Wrong)):
        with pytest.raises(SchemaError, match=r"differ in (MID|LOUD)"):
            Codec(registry, "t", holder(cls | None), strict=strict)
    with pytest.raises(UnknownSymbol):
        conversion_for(Tone, ALL, follows=True).from_avro("MID")

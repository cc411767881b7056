"""What `verify` reads and rounds without the codec is what the codec reads, for every type that classes may have."""

from __future__ import annotations

import math
from datetime import datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from pipeline.adapters.avro.binding import named_types
from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.verify.sources.decode import Decoder
from pipeline.verify.sources.stored import rounding
from tests.helpers.every_type import register
from tests.helpers.rich_types import logical
from tests.unit.adapters.test_codec import records, thoroughly

PRICE = logical("bytes", "decimal", precision=4, scale=2)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("schemas")


def test_random_records_are_read_as_the_codec_reads_them(directory: Path) -> None:
    @thoroughly
    def check(data: st.DataObject) -> None:
        shape = data.draw(records(rich=True))
        (directory / "manifest.json").unlink(missing_ok=True)
        register(directory, {"x.row": shape.schema})
        registry = Registry(directory)
        codec, decoder = Codec(registry, "x.row", shape.annotation), Decoder(registry, "x.row", shape.annotation)
        rounded = rounding(shape.schema, named_types(shape.schema))
        for _ in range(3):
            value, _ = data.draw(shape.values)
            encoded = codec.encode(value)
            read = repr(codec.decode(encoded))
            assert repr(decoder.value(encoded)) == read
            assert repr(value if rounded is None else rounded(value)) == read

    check()


@pytest.mark.parametrize(
    ("schema", "value", "says"),
    [
        (PRICE, Decimal("NaN"), "not finite"),
        (PRICE, Decimal("Infinity"), "no such decimal"),
        (PRICE, Decimal("1.005"), "no such decimal"),
        (PRICE, Decimal(100), "no such decimal"),
        (logical("long", "timestamp-micros"), datetime(2026, 1, 1), "no timezone"),
        ("double", math.nan, "not finite"),
    ],
)
def test_what_the_codec_refuses_is_not_rounded(schema: Any, value: object, says: str) -> None:
    rounded = rounding(schema, {})
    assert rounded is not None
    with pytest.raises(ValueError, match=says):
        rounded(value)


@pytest.mark.parametrize(
    ("schema", "value", "stored"),
    [
        (["null", {"type": "array", "items": PRICE}], [Decimal("1.5")], [Decimal("1.50")]),
        (["null", {"type": "array", "items": PRICE}], (Decimal("1.5"),), (Decimal("1.50"),)),
        (["null", PRICE], Decimal("-0"), Decimal("0.00")),
        (["null", logical("long", "time-micros")], time(1, fold=1), time(1)),
        ({"type": "map", "values": ["null", PRICE]}, {"a": None, "b": Decimal(1)}, {"a": None, "b": Decimal("1.00")}),
        (PRICE, b"1", b"1"),
    ],
)
def test_what_is_in_a_union_is_rounded_by_its_type(schema: Any, value: object, stored: object) -> None:
    rounded = rounding(schema, {})
    assert rounded is not None
    assert repr(rounded(value)) == repr(stored)

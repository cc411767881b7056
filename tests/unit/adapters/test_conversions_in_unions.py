"""Which branch of a union a value of such types goes to, and comes back from."""

import itertools
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NewType

import pytest

from tests.helpers.rich_types import Colour
from tests.unit.adapters.test_codec import HEAD
from tests.unit.adapters.test_codec_edges import holding
from tests.unit.adapters.test_conversions import COLOUR, DATE, MICROS, both, money

MEMBERS: list[tuple[Any, Any, Any]] = [
    (type(None), "null", None),
    (bool, "boolean", True),
    (float, "double", 0.5),
    (date, DATE, date(2026, 1, 2)),
    (datetime, MICROS, datetime(2026, 1, 2, tzinfo=UTC)),
    (Decimal, money(), Decimal("1.50")),
    (Colour, COLOUR, Colour.BLUE),
    (str, "string", "text"),
    (list[int], {"type": "array", "items": "int"}, [1]),
]


@both
@pytest.mark.parametrize("members", [*itertools.permutations(MEMBERS, 4)][::97])
def test_the_very_type_says_the_branch(native: bool, members: tuple[tuple[Any, Any, Any], ...]) -> None:
    hints = [hint for hint, _, _ in reversed(members)]
    cls, codec = holding(
        hints[0] | (hints[1] | NewType("Own", hints[2] | hints[3])), [s for _, s, _ in members], native=native
    )
    for number, (_, _, value) in enumerate(members):
        data = codec.encode(cls(value))
        assert data[len(HEAD)] == number * 2
        assert codec.decode(data) == cls(value)
        assert type(codec.decode(data).x) is type(value)


@both
def test_numbers_and_dates_in_one_union(native: bool) -> None:
    cls, codec = holding(int | Decimal | str | None, ["null", "string", money(), "long"], native=native)
    for value, branch in ((7, 6), (Decimal(7), 4), ("7", 2), (None, 0)):
        assert codec.encode(cls(value))[len(HEAD)] == branch
        assert codec.decode(codec.encode(cls(value))) == cls(value)
    cls, codec = holding(int | date, [DATE, "long"], native=native)
    assert codec.decode(codec.encode(cls(7))) == cls(7)
    assert codec.decode(codec.encode(cls(date.max))) == cls(date.max)

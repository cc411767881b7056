"""How a version and a time are told apart, and how times are read and written."""

import pytest

from pipeline.client.wire.as_of import iso, parse_as_of
from pipeline.errors import InvalidMoment

DAY_MS = 1_259_625_600_000  # 2009-12-01 in UTC


@pytest.mark.parametrize(
    ("text", "version", "time_ms"),
    [
        ("0", 0, None),
        ("17", 17, None),
        (" 17 ", 17, None),
        ("20091201", 20_091_201, None),
        ("99999999999", 99_999_999_999, None),
        ("100000000000", None, 100_000_000_000),
        (str(DAY_MS), None, DAY_MS),
        ("2009-12-01", None, DAY_MS),
        ("2009-12-01T00:00:00Z", None, DAY_MS),
        ("2009-12-01T00:00:00.001999", None, DAY_MS + 1),
        ("2009-12-01 01:00:00+01:00", None, DAY_MS),
        ("1969-12-31T23:59:59.999Z", None, -1),
    ],
)
def test_a_moment_is_a_version_or_a_time(text: str, version: int | None, time_ms: int | None) -> None:
    assert parse_as_of(text) == (version, time_ms)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "yesterday", "2009-13-01", "1" * 19, "²", "0001-01-01T00:00:00Z;"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidMoment, match="neither a version"):
        parse_as_of(text)


def test_a_time_is_written_in_utc_to_the_millisecond() -> None:
    assert iso(DAY_MS + 1) == "2009-12-01T00:00:00.001Z"
    assert parse_as_of(iso(DAY_MS + 7)) == (None, DAY_MS + 7)

"""Parses moments in an aggregate's life: a version, or a time."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.errors import InvalidMoment

FIRST_TIME_MS = 10**11  # 3 March 1973: a number from here on is a time, below it a version
DIGITS_MAX = 18


def parse_as_of(text: str) -> tuple[int | None, int | None]:
    """Return `as_of` as (version, None) or (None, milliseconds since the epoch). Raises InvalidMoment.

    Digits only: a version below 100,000,000,000, else milliseconds since the epoch. Anything else is an ISO 8601 date
    or time, in UTC unless it has a zone; a date alone means its first moment.
    """
    text = text.strip()
    try:
        if text.isascii() and text.isdigit():
            if len(text) > DIGITS_MAX:
                raise ValueError
            number = int(text)
            return (number, None) if number < FIRST_TIME_MS else (None, number)
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        since = time - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidMoment(
            f"{text!r:.100} is neither a version, nor milliseconds since the epoch, nor an ISO 8601 time such as "
            "2009-12-01T10:00:00Z; in a URL, + is written %2B"
        ) from None
    return None, (since.days * 86_400_000) + since.seconds * 1000 + since.microseconds // 1000


def parse_time(text: str) -> int:
    """Return a time in milliseconds since the epoch; see `parse_as_of`. Raises InvalidMoment."""
    _, time_ms = parse_as_of(text)
    if time_ms is None:
        raise InvalidMoment(
            f"{text!r:.100} is not a time; give milliseconds since the epoch, or ISO 8601 such as 2009-12-01T10:00:00Z"
        )
    return time_ms


def iso(time_ms: int) -> str:
    """Return a time in UTC to the millisecond: `2009-12-01T10:00:00.000Z`."""
    seconds, millis = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03}Z"

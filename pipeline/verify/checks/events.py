"""Holds the event log of one key against what its commands must have caused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipeline.model import EventMessage


class Logged(NamedTuple):
    """An event as it stands in the log."""

    offset: int
    event: EventMessage


class Difference(NamedTuple):
    """One place where a log differs. `offset` is None for an event that is missing."""

    kind: str
    offset: int | None
    version: int
    expected: EventMessage | None
    found: EventMessage | None


def versions(log: Sequence[Logged]) -> Iterator[Difference]:
    """Where the versions of an aggregate are not 1, 2, 3 …: each gap and each repetition."""
    seen: set[int] = set()
    last = 0
    for offset, event in log:
        if event.version in seen:
            yield Difference("version_repeated", offset, event.version, None, event)
        elif event.version != last + 1:
            yield Difference("version_gap", offset, event.version, None, event)
        seen.add(event.version)
        last = event.version


def differences(due: Sequence[EventMessage], must: int, log: Sequence[Logged]) -> Iterator[Difference]:
    """How `log` differs from `due`, of which the first `must` have to be there and the rest may be on their way."""
    found = [event for _, event in log]
    if len(found) >= must and found == due[: len(found)]:
        return
    # By repr: a body may hold what cannot be hashed. Only a damaged key comes here.
    allowed = Counter(repr(event) for event in due)
    missing = {repr(event): event for event in due[:must]}
    extra: list[Logged] = []
    for each in log:
        text = repr(each.event)
        missing.pop(text, None)
        if allowed[text] > 0:
            allowed[text] -= 1
        elif text in allowed:
            yield Difference("duplicate_event", each.offset, each.event.version, None, each.event)
        else:
            extra.append(each)
    wrong = {event.version: text for text, event in missing.items()}
    plain = True  # nothing missing, nothing extra
    for offset, event in extra:
        plain = False
        expected = missing.pop(wrong.pop(event.version, ""), None)
        yield Difference("wrong_event" if expected else "extra_event", offset, event.version, expected, event)
    for event in missing.values():
        plain = False
        yield Difference("missing_event", None, event.version, event, None)
    if plain:
        for (offset, event), expected in zip(log, due, strict=False):
            if event != expected:
                yield Difference("event_order", offset, event.version, expected, event)
                return

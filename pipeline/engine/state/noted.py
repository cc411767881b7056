"""Noted positions: each commit writes, in its transaction, where each source partition stands and what has folded it.

They stand on the topic `<service>.positions`, so they outlive the group's offsets, which the broker may forget. The
record key is `<source topic>/<partition>`, the value JSON; the topic is compacted, and only its partition 0 is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import NamedTuple

from pipeline.engine.ports import TP, Position
from pipeline.model.records.step_notes import StepNotes, read_step_notes, step_words


class Standing(NamedTuple):
    """What folds a source partition: its steps by name, and the identities of its topic and of those it is folded into.

    A step that is no part of a noted standing has folded nothing below the position noted with it.
    """

    steps: tuple[str, ...]
    topics: Mapping[str, int]

    def text(self) -> str:
        """The members of a noted position's JSON, but the offset."""
        topics = {name: f"{identity:x}" for name, identity in sorted(self.topics.items())}
        return json.dumps({"steps": sorted(self.steps), "topics": topics})[1:]

    @property
    def digest(self) -> int:
        """What tells it from any other, in 64 bits; never 0."""
        return int.from_bytes(blake2b(self.text().encode(), digest_size=8).digest(), "big") or 1


class Noted(NamedTuple):
    """A noted position: the next offset to fold, what has folded all before it, and how far each step is in that."""

    offset: int
    standing: Standing
    steps: StepNotes = MappingProxyType({})


def noted_key(tp: TP) -> bytes:
    """The record key of a partition's noted position."""
    return f"{tp.topic}/{tp.partition}".encode()


def noted_value(offset: int, standing_text: str, steps: StepNotes) -> bytes:
    """The record of a noted position. `standing_text`: see Standing.text."""
    return f'{{"offset": {offset}, "notes": "{" ".join(step_words(steps))}", {standing_text}'.encode()


def read_noted(key: bytes, value: bytes) -> tuple[TP, Noted]:
    """Return what such a record says."""
    topic, _, partition = key.decode().rpartition("/")
    told = json.loads(value)
    topics = {name: int(identity, 16) for name, identity in told["topics"].items()}
    return TP(topic, int(partition)), Noted(
        told["offset"], Standing(tuple(told["steps"]), topics), read_step_notes(told.get("notes"))
    )


def made_again(then: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
    """Return the topics of `then` that have been deleted and created again since."""
    return sorted(name for name, identity in then.items() if now.get(name, identity) != identity)


def why_not(tp: TP, committed: Position | None, noted: Noted | None, topics: Mapping[str, int]) -> str | None:
    """Return why a partition must not be folded from where the group's offset is; None if it may be.

    `topics`: the identities of the topics now.
    """
    place = "{}-{}".format(*tp)
    if noted is not None:
        then, offset = noted.standing.topics, noted.offset
    elif committed is not None:
        then, offset = {name: identity for name, (_, identity) in committed.changelogs.items()}, committed.offset
    else:
        return None  # nothing was ever folded
    if others := made_again(then, topics):
        return f"{place} stands at {offset}, but {', '.join(others)} has been deleted and created again"
    if noted is None:
        return None
    if committed is None:
        return f"the group has no offset for {place}, which stands at {offset}: the broker has forgotten it"
    if not committed.standing and committed.offset != offset:  # no commit of a worker
        does = "do work again" if committed.offset < offset else "skip records"
        return f"the group's offset of {place} was set to {committed.offset}, which would {does}: it stands at {offset}"
    return None

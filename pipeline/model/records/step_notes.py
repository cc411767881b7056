"""How far each step of a task is that may be newer than its source: noted beside the committed offset, with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple


class StepNote(NamedTuple):
    """Where a step stands in one source partition.

    `began`: the first offset that it folds. `level`: it stands where the group does, since the group was at `at`.
    Otherwise `at` is the next offset that it has to fold. Of an aggregate's states: see engine.beside.states.
    """

    began: int
    at: int
    level: bool


NOTHING = 2**63 - 1  # `at` of states that lack no event
StepNotes = Mapping[str, StepNote]  # by `mark` of the step's name
_NOTE = re.compile(r"(?:^| )~([0-9a-f]{8}):(\d+):(\d+)([+-])(?= |$)")


def mark(step: str) -> str:
    """What a step is called in notes, which have little room."""
    return blake2b(step.encode(), digest_size=4).hexdigest()


def step_words(notes: StepNotes) -> list[str]:
    """Write notes as words of an offset's metadata."""
    return [f"~{name}:{each.began}:{each.at}{'+' if each.level else '-'}" for name, each in notes.items()]


def read_step_notes(text: str | None) -> dict[str, StepNote]:
    """Read the notes among the words of such metadata."""
    return {name: StepNote(int(began), int(at), sign == "+") for name, began, at, sign in _NOTE.findall(text or "")}

"""What a linear saga is declared with, its steps, and what its state holds of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.errors import TopologyError

NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
STUCK_AFTER = 5  # attempts
TIMEOUT = "timeout"  # the reason if no reply came


class To(NamedTuple):
    """A command and its address."""

    aggregate: str
    key: str
    command: Any


@dataclass(frozen=True, slots=True)
class Retry:
    """When a step is tried again, and how long after: `first_s`, then `factor` times longer each time, at most `max_s`.

    `attempts`: in all; for a compensation, and for a step that has to succeed, there is no end to them. `on`: the
    reasons of a rejection that is worth another attempt; None: all are. No answer in time always is.
    """

    attempts: int = 1
    first_s: float = 1.0
    factor: float = 2.0
    max_s: float = 60.0
    on: tuple[str, ...] | None = None

    def after_s(self, attempt: int) -> float:
        """The pause after that attempt, in seconds."""
        return min(self.max_s, self.first_s * self.factor ** min(attempt - 1, 64))

    def is_worth(self, reason: str) -> bool:
        """Whether another attempt may succeed after that reason."""
        return self.on is None or reason == TIMEOUT or reason in self.on


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a saga.

    `do(state)`: the commands it sends, all at once; it has succeeded when all are accepted. None: nothing to do.
    `undo(state)`: what undoes each of them, in the same order. It is sent for those that succeeded, and for those of
    which that is not known. None: there is nothing to undo.
    `timeout_s`: how long to wait for all answers to an attempt; None: for ever. A step that can be undone has failed
    then; what has to succeed, its undoing or a step that `must`, goes on waiting and is shown as stuck.
    `must`: from here on there is no way back: the step is tried until it succeeds, whatever is answered.
    `ask_again`: whether what has to succeed is asked for again after that time. Only for commands that may get lost on
    their way, which those in Kafka do not: who is away will find them when it is back.
    """

    name: str
    do: Callable[[Any], Sequence[To]] | None = None
    undo: Callable[[Any], Sequence[To]] | None = None
    retry: Retry = Retry()
    timeout_s: float | None = None
    must: bool = False
    ask_again: bool = False


@dataclass(frozen=True, slots=True)
class Did:
    """Commands of a step, by their places, that were accepted or may have been."""

    step: str
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a saga is. A state of `linear_saga` has it as its field `progress`."""

    definition: int = 0
    status: str = ""
    step: str = ""  # the one that is done or undone just now
    attempt: int = 0
    backoff: bool = False  # whether the attempt has failed, and the next has to wait
    pending: tuple[int, ...] = ()  # places of this attempt without an answer
    failed: tuple[int, ...] = ()  # to be tried again
    did: tuple[int, ...] = ()  # accepted in this or an earlier attempt; may overlap with the following
    doubtful: tuple[int, ...] = ()  # once left without an answer: may have been done, whatever was said since
    done: tuple[Did, ...] = ()  # what would have to be undone, in the order in which it was done
    stuck: bool = False  # whether it has been tried in vain more often than is usual
    trouble: str = ""  # why the last attempt that failed did so
    reason: str = ""  # why it is undone


def check_steps(where: str, steps: Sequence[Step]) -> None:
    """Raise TopologyError if the steps do not make up a saga."""
    names = [step.name for step in steps]
    for name in names:
        if not NAME.fullmatch(name) or names.count(name) > 1:
            raise TopologyError(f"{where}: the step's name {name!r} is not a word, or not the only one of its kind")
    for before, after in itertools.pairwise(steps):
        if before.must and not after.must:
            raise TopologyError(f"{where}: step {after.name!r} may fail after {before.name!r}, which cannot be undone")
    for step in steps:
        if step.must and step.undo is not None:
            raise TopologyError(f"{where}: step {step.name!r} must succeed, so nothing ever undoes it; leave undo out")


def diagram(steps: Sequence[Step]) -> str:
    """The steps as a Mermaid state diagram: what is done downwards, what is undone upwards."""
    lines = ["stateDiagram-v2", "    direction TB"]
    undoing = [step for step in steps if step.undo is not None]
    doing = [step for step in steps if step.do is not None]
    names = ["[*]", *(step.name for step in doing), "done"]
    lines += [f"    {one} --> {other}" for one, other in itertools.pairwise(names)]
    lines.append("    done --> [*]")
    for step in doing:
        if step.must:
            lines.append(f"    {step.name} --> {step.name}: again until accepted")
        else:
            before = [other for other in steps[: steps.index(step)] if other in undoing]
            back = _undo(before[-1]) if before else "undone"
            if step.undo is None:
                lines.append(f"    {step.name} --> {back}: refused, timeout or abort")
            else:  # a step that was refused has done nothing; else some of it may have been done
                lines.append(f"    {step.name} --> {back}: refused")
                lines.append(f"    {step.name} --> {_undo(step)}: refused in part, timeout or abort")
    ways = [*(_undo(step) for step in reversed(undoing)), "undone"]
    lines += [f"    {one} --> {other}" for one, other in itertools.pairwise(ways)]
    return "\n".join([*lines, "    undone --> [*]"]) + "\n"


def _undo(step: Step) -> str:
    return f"undo_{step.name}"

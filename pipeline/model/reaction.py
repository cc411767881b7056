"""The reaction: what another service's event asks of one's own aggregates. Stateless."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.model.context import EventContext, Given, asks_context
from pipeline.model.source import Source
from pipeline.model.start import BEGINNING


class Send(NamedTuple):
    """A command for the aggregate that takes commands of its class, with the aggregate's id as `key`."""

    key: str
    command: Any


@dataclass(frozen=True, slots=True)
class Reaction:
    """Follows events and sends commands to aggregates of its own service.

    `react(key, event)`: the commands that an event of the aggregate `key` gives rise to, in order. Their ids are
    derived from the reaction's name and the event's identity, so that folding the event again repeats the ids.
    With a parameter `context` it is given an EventContext.

    `start`: a reaction that is new to its service reacts to all that the source holds, from the beginning; with "now"
    only to what comes once it is there.
    """

    name: str
    source: Source
    react: Given[str, Any, Iterable[Send]]
    start: str = BEGINNING
    react_in_context: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        reacts = asks_context(self.react, f"reaction {self.name!r}: its react", ["the key", "the event"], EventContext)
        object.__setattr__(self, "react_in_context", reacts)

"""The reaction: what another service's event asks of one's own aggregates. Stateless."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.model.source import Source


class Send(NamedTuple):
    """A command for the aggregate that takes commands of its class, with the aggregate's id as `key`."""

    key: str
    command: Any


@dataclass(frozen=True, slots=True)
class Reaction:
    """Follows events and sends commands to aggregates of its own service.

    `react(key, event)`: the commands that an event of the aggregate `key` gives rise to, in order. Their ids are
    derived from the reaction's name and the event's identity, so that folding the event again repeats the ids.
    """

    name: str
    source: Source
    react: Callable[[str, Any], Iterable[Send]]

"""event -> command: the commands that a reaction sends to its own service's aggregates."""

from __future__ import annotations

from pipeline.flow.in_context import of_event
from pipeline.model.reaction import Reaction, Send
from pipeline.model.records.messages import CommandMessage, EventMessage


def event_to_command(reaction: Reaction, key: str, event: EventMessage) -> list[tuple[Send, CommandMessage]]:
    """The commands that `reaction` sends for `event` of the aggregate `key`, in order, each beside its address.

    A command's id is `<reaction>/<key>/<version>/<place>`: the same event always gives the same ids.
    """
    cause = f"{reaction.source.topic}/{key}/{event.version}"
    prefix = f"{reaction.name}/{key}/{event.version}/"
    react = reaction.react
    if reaction.react_in_context:
        react = of_event(react, reaction.source.topic, key, event)
    return [
        (send, CommandMessage(f"{prefix}{n}", event.correlation_id, cause, event.time_ms, send.command))
        for n, send in enumerate(react(key, event.body))
    ]

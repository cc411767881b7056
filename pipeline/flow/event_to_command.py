"""event -> command: the commands that a reaction sends to its own service's aggregates."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.flow.functions.in_context import of_event
from pipeline.flow.functions.returned import returned_list
from pipeline.model.changes.upcasts import Upcast, today
from pipeline.model.reaction import Reaction, Send
from pipeline.model.records.messages import CommandMessage, EventMessage


def event_to_command(reaction: Reaction, key: str, event: EventMessage) -> list[tuple[Send, CommandMessage]]:
    """The commands that `reaction` sends for `event` of the aggregate `key`, in order, each beside its address.

    A command's id is `<reaction>/<key>/<version>/<place>`: the same event always gives the same ids. The place goes on
    over the parts that an old event was upcast to.
    """
    cause = f"{reaction.source.topic}/{key}/{event.version}"
    prefix = f"{reaction.name}/{key}/{event.version}/"
    sends: Sequence[Send]
    if type(event.body) is Upcast:
        sends = [send for part in today(event) for send in _sends(reaction, key, part)]
    else:
        sends = _sends(reaction, key, event)
    return [
        (send, CommandMessage(f"{prefix}{n}", event.correlation_id, cause, event.time_ms, send.command))
        for n, send in enumerate(sends)
    ]


def _sends(reaction: Reaction, key: str, event: EventMessage) -> Sequence[Send]:
    react = reaction.react
    if reaction.react_in_context:
        react = of_event(react, reaction.source.topic, key, event)
    sends = react(key, event.body)
    if type(sends) is not list:
        sends = returned_list(f"react of {reaction.name!r}", event.body, sends, "Sends")
    for send in sends:
        if not isinstance(send, Send):
            kind = type(event.body).__name__
            raise TypeError(f"react of {reaction.name!r} gave {send!r:.100} on a {kind}: give Sends only")
    return sends

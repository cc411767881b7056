"""What was found, as steps: each a command, who sent it and why, what its owner decided, and what that came to."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pipeline.adapters.json.writing import to_json
from pipeline.errors import UpcastFailed
from pipeline.explain.logs import Found, Logs, Owner, Place
from pipeline.flow.ask_to_command import asked_by
from pipeline.flow.command_to_deadline import PREFIX
from pipeline.model import CommandMessage, EventMessage, Rejected
from pipeline.model.changes.upcasts import today
from pipeline.model.reservation import decide_reservation
from pipeline.topology import Topology
from pipeline.verify.replay.notices import Act

REPLY = "reply:"
UNDOING = ("undo-", "abort-")  # beginnings of the steps by which a saga, or a two-phase commit, undoes what was done


class Kind(Enum):
    """Who sends a command."""

    REQUEST = "request"  # a program or person outside
    REACTION = "reaction"
    ASK = "ask"  # a saga
    UNDO = "undo"  # a saga, to undo what was done
    ANSWER = "answer"  # the reply to an ask, in the saga's own topic
    RESERVATION = "reservation"  # the owner of a unique value
    DEADLINE = "deadline"


@dataclass(slots=True)
class Step:
    """One command and its decision. `sender`: the reaction, saga or aggregate that has sent it; empty: outside.

    `command`: None if retention has deleted it. `causes`: the steps that it follows from; `number`: 1 for the first.
    `state`: the record that has the events folded in, if compaction has left it.
    """

    owner: Owner
    key: str
    command_id: str
    command: Found | None = None
    events: list[Found] = field(default_factory=list)
    reply: Place | None = None
    state: Place | None = None
    kind: Kind = Kind.REQUEST
    sender: str = ""
    causes: list[Step] = field(default_factory=list)
    number: int = 0
    parked: list[tuple[str, Act]] = field(default_factory=list)  # what became of its command and events, by service

    @property
    def time_ms(self) -> int:
        """When the broker stored the command."""
        if self.command is not None:
            return self.command.entry.time_ms
        return min(event.message.time_ms for event in self.events if isinstance(event.message, EventMessage))

    @property
    def rejected(self) -> Rejected | None:
        """The rejection, if the command was rejected."""
        body = None if self.reply is None else self.reply.message.body
        return body if isinstance(body, Rejected) else None

    @property
    def cause(self) -> str | None:
        """The causation id: a command's position or an event's identity."""
        message = None if self.command is None else self.command.message
        return message.causation_id if isinstance(message, CommandMessage) else None

    def caused(self, steps: Iterable[Step]) -> list[Step]:
        """Return the steps that follow from this one."""
        return [step for step in steps if any(cause is self for cause in step.causes)]


def bodies(message: Any) -> list[dict[str, Any]]:
    """Return what a command or event says as JSON, each with its class's name as `type`.

    An old event may be upcast to several or none.
    """
    parts = [message]
    if isinstance(message, EventMessage):
        try:
            parts = list(today(message))
        except UpcastFailed as error:
            return [{"type": "(cannot be upcast)", "why": str(error)}]
    return [{"type": to_json(part.body, tagged=True)["type"], **to_json(part.body)} for part in parts]


def steps_of(logs: Logs, found: list[Found]) -> list[Step]:
    """Return the steps in an order in which each stands behind what it follows from."""
    steps: dict[tuple[str, str, str], Step] = {}
    for each in found:
        is_command = isinstance(each.message, CommandMessage)
        command_id = each.message.id if isinstance(each.message, CommandMessage) else each.message.command_id
        step = steps.setdefault((each.owner.name, each.key, command_id), Step(each.owner, each.key, command_id))
        if not is_command:
            step.events.append(each)
        elif step.command is None:  # else the command was sent twice, and the first counts
            step.command = each
    for name, reply in logs.replies((step.owner, step.key, step.command_id) for step in steps.values()).items():
        steps[name].reply = reply
    _add_states(logs, steps.values())
    _add_senders(logs, steps.values())
    return _ordered(list(steps.values()))


def _add_states(logs: Logs, steps: Iterable[Step]) -> None:
    keys: dict[str, set[str]] = {}
    for step in steps:
        if step.events:
            keys.setdefault(step.owner.name, set()).add(step.key)
    states = {name: logs.states(name, of) for name, of in keys.items()}
    for step in steps:
        if step.events:
            version = max(e.message.version for e in step.events if isinstance(e.message, EventMessage))
            kept = states[step.owner.name].get(step.key, [])
            step.state = next((each for each in kept if each.message and each.message.version >= version), None)


def add_parked(logs: Logs, topology: Topology, steps: Iterable[Step]) -> None:
    """Say of each step which services could not fold its command or events, and what became of that."""
    notices = logs.notices(topology.services)
    for step in steps:
        for each in (step.command, *step.events):
            step.parked += () if each is None else notices.get((each.tp, each.entry.offset), ())


def _add_senders(logs: Logs, steps: Iterable[Step]) -> None:
    """Say of each step who has sent its command, and which steps it follows from."""
    places: dict[str, Step] = {}
    for step in steps:
        for each in (step.command, *step.events):
            if each is not None:
                topic, partition = each.tp
                places[f"{topic}/{partition}/{each.entry.offset}"] = step
                if isinstance(each.message, EventMessage):
                    places[f"{topic}/{each.key}/{each.message.version}"] = step
    for step in steps:
        step.kind, step.sender = _sender(logs, step)
        if step.cause in places:
            step.causes.append(places[step.cause])


def _sender(logs: Logs, step: Step) -> tuple[Kind, str]:
    id_ = step.command_id
    if id_.startswith(REPLY):
        return Kind.ANSWER, step.owner.name
    if step.command is not None and step.cause is None:
        return Kind.REQUEST, ""
    if id_.startswith(PREFIX):
        return Kind.DEADLINE, step.owner.name
    if step.owner.aggregate.decide is decide_reservation:
        return Kind.RESERVATION, (step.cause or "").partition(".")[0]
    asker = asked_by(id_).partition("/")[0]
    if logs.asks(asker):
        is_undo = id_[len(asked_by(id_)) + 1 :].startswith(UNDOING)
        return (Kind.UNDO if is_undo else Kind.ASK), asker
    if step.cause is not None and step.cause.startswith(f"{step.owner.name}.command/"):
        return Kind.DEADLINE, step.owner.name  # scheduled by its sender
    return (Kind.REQUEST, "") if step.command is None else (Kind.REACTION, id_.partition("/")[0])


def _ordered(steps: list[Step]) -> list[Step]:
    """Number the steps: by time, but each behind those that it follows from."""
    left = {id(step): len(step.causes) for step in steps}
    following: dict[int, list[int]] = {}
    for n, step in enumerate(steps):
        for cause in step.causes:
            following.setdefault(id(cause), []).append(n)
    ready = [(step.time_ms, n) for n, step in enumerate(steps) if not step.causes]
    heapq.heapify(ready)
    ordered: list[Step] = []
    while ready:
        step = steps[heapq.heappop(ready)[1]]
        ordered.append(step)
        step.number = len(ordered)
        for n in following.get(id(step), ()):
            left[id(steps[n])] -= 1
            if not left[id(steps[n])]:
                heapq.heappush(ready, (steps[n].time_ms, n))
    return ordered


def events_of(steps: Iterable[Step]) -> Iterator[tuple[Step, Found]]:
    """Yield each event with its step."""
    for step in steps:
        for event in step.events:
            yield step, event

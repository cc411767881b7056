"""What each step says: to a machine as JSON, to people in words that tell why it is so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.engine.ports import TP
from pipeline.explain.logs import Found, Place
from pipeline.explain.rows import Row
from pipeline.explain.sagas import Instance
from pipeline.explain.steps import Kind, Step, bodies
from pipeline.model import EventMessage

WHY = {
    Kind.REQUEST: "A command only asks. It is stored before anyone acts on it, so no crash can lose it.",
    Kind.REACTION: "A reaction follows what is published. Its source need not know that it exists.",
    Kind.ASK: "A saga asks each owner for its part. Each decides alone, and may refuse.",
    Kind.UNDO: "No rollback reaches into another service: what was done is undone by a command of its own.",
    Kind.ANSWER: "The answer is a record, too. From its state alone the saga knows what it owes next.",
    Kind.RESERVATION: "A unique value has an owner, too: whoever reserves it first has it.",
    Kind.DEADLINE: "A deadline is part of the state: a worker that was away sends it when it is back.",
}
DECIDED = "An event is a fact. Only its owner can write it, from its own state, one command after the other."
REFUSED = "Nothing has changed there. The reason goes back to the sender, whose turn it is."
TOGETHER = (
    "Position, events, state, reply and further commands are one Kafka transaction: after any crash all of them are "
    "there, once, or none is and the command is decided again."
)
ROW = "A table made for reading. Its service owns none of this data, and can fold it again from the events."
REPLICA = "A copy of another service's data, so that a decision need not wait for that service."


@dataclass(frozen=True, slots=True)
class Story:
    """One request: its steps and the rows that came of it, in order.

    `notes`: what could not be read, or is missing. `which`: which of the requests to the aggregate it is.
    """

    aggregate: str
    key: str
    steps: Sequence[Step]
    rows: Sequence[Row]
    notes: list[str] = field(default_factory=list)
    which: str = ""
    sagas: Sequence[Instance] = ()

    @property
    def began_ms(self) -> int:
        """When its first command was stored."""
        return min(step.time_ms for step in self.steps)

    @property
    def services(self) -> list[str]:
        """The services that had a part in it, in the order of their first step."""
        return list(dict.fromkeys([step.owner.service for step in self.steps] + [row.service for row in self.rows]))

    def as_json(self) -> dict[str, Any]:
        """Return the whole story for a machine."""
        return {
            "aggregate": self.aggregate,
            "key": self.key,
            "services": self.services,
            "steps": [self._step(step) for step in self.steps],
            "rows": [self._row(row) for row in self.rows],
            "sagas": [saga.as_json() for saga in self.sagas],
            "notes": list(self.notes),
        }

    def _step(self, step: Step) -> dict[str, Any]:
        return {
            "number": step.number,
            "after_ms": step.time_ms - self.began_ms,
            "service": step.owner.service,
            "aggregate": step.owner.name,
            "key": step.key,
            "kind": step.kind.value,
            "sender": step.sender or None,
            "caused_by": [cause.number for cause in step.causes],
            "causation_id": step.cause,
            "command_id": step.command_id,
            "command": None if step.command is None else record(step.command),
            "events": [record(event) for event in step.events],
            "rejected": None if (no := step.rejected) is None else {"reason": no.reason, "details": dict(no.details)},
            "parked": [{"service": name, "action": act.action, "cause": act.cause} for name, act in step.parked],
            "state": place(step.state),
            "reply": place(step.reply),
            "commits": [commit(event) for event in step.events if event.marker is not None][-1:],
            "why": why(step),
        }

    def _row(self, row: Row) -> dict[str, Any]:
        return {
            "number": row.number,
            "service": row.service,
            "table": row.table,
            "key": row.key,
            "source": row.source,
            "caused_by": [cause.number for cause in row.causes],
            "record": place(row.place),
            "fields": row.fields,
            "why": REPLICA if row.is_replica else ROW,
        }


def why(step: Step) -> str:
    """Return why a step matters."""
    return WHY[step.kind] if step.rejected is None else REFUSED


def at(tp: TP, offset: int) -> str:
    """Return a position as all commands show it: orders.event/2@31."""
    return f"{tp.topic}/{tp.partition}@{offset}"


def commit(event: Found) -> str:
    """Return where the mark of the transaction stands that committed an event."""
    return at(event.tp, event.marker or 0)


def place(found: Place | None) -> str | None:
    """Return where such a record stands."""
    return None if found is None else at(found.tp, found.entry.offset)


def record(found: Found) -> dict[str, Any]:
    """Return a command or event as JSON."""
    said = bodies(found.message)
    return {
        "topic": found.tp.topic,
        "partition": found.tp.partition,
        "offset": found.entry.offset,
        "key": found.key,
        "time_ms": found.entry.time_ms,
        "correlation_id": found.message.correlation_id,
        **({"version": found.message.version} if isinstance(found.message, EventMessage) else {}),
        "messages": said,
    }

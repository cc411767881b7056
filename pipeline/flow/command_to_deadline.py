"""command -> deadline: a command to be sent later, and its time."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.model.deadline import TIME_MS_MAX, Cancel, Deadline, Effect
from pipeline.model.records.messages import CommandMessage
from pipeline.model.records.topics import TopicKind

PREFIX = "deadline:"  # and a deadline's name: what it is called in the table, and the beginning of its command's id
SCHEDULED = "command:"  # and a command's id: what a scheduled command is called in the table


def command_position(aggregate: str, partition: int, offset: int) -> str:
    """`users.command/3/77`: a command's position, which is the causation id of what it causes."""
    return f"{TopicKind.COMMAND.topic(aggregate)}/{partition}/{offset}"


def effects_to_deadlines(
    effects: Iterable[Effect], correlation_id: str, cause: str, time_ms: int
) -> dict[str, tuple[int, CommandMessage] | None]:
    """By name, when each deadline is due and the command that it sends; None if it is cancelled.

    `cause`: the position of what was decided on, unlike any other's; `time_ms`: when that was stored. So the same
    effects always give the same deadlines, and each setting a command id of its own: `deadline:<name>/<cause>`.
    """
    found: dict[str, tuple[int, CommandMessage] | None] = {}
    for effect in effects:
        if isinstance(effect, Deadline):
            due_ms = effect.at if effect.at is not None else time_ms + round(1000 * (effect.after or 0))
            due_ms = min(due_ms, TIME_MS_MAX)
            command_id = f"{PREFIX}{effect.name}/{cause}"
            found[effect.name] = due_ms, CommandMessage(command_id, correlation_id, cause, due_ms, effect.command)
        elif isinstance(effect, Cancel):
            found[effect.name] = None
    return found


def is_later(command: CommandMessage, time_ms: int) -> bool:
    """Whether a command stored at `time_ms` must wait until it is due."""
    return command.due_ms is not None and command.due_ms > time_ms


def once_due(command: CommandMessage, cause: str) -> CommandMessage:
    """A scheduled command as sent when due. `cause`: its position, so that it never expires."""
    return command._replace(causation_id=cause, due_ms=None)


def was_due(aggregate: str, command: CommandMessage) -> bool:
    """Whether the command was sent by a deadline, or scheduled before: its cause is a command of the same aggregate."""
    return (command.causation_id or "").startswith(f"{TopicKind.COMMAND.topic(aggregate)}/")

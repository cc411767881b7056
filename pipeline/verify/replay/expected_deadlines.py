"""What the aggregates of one partition are to be sent later, told from the log of their commands alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pipeline.flow import command_position, effects_to_deadlines, is_later, once_due, was_due
from pipeline.flow.command_to_deadline import PREFIX, SCHEDULED
from pipeline.model import Aggregate, CommandMessage, Effect

Identity = tuple[Any, str, str | None]  # the aggregate's id, and the id and the cause of the command that is sent
Name = tuple[Any, str]  # the aggregate's id, and the deadline's name or SCHEDULED and a command's id


class Setting(NamedTuple):
    """A deadline set, or a command scheduled, when the record at `offset` was folded. `command`: what it sends."""

    name: Name
    due_ms: int
    command: CommandMessage
    offset: int


class Came(NamedTuple):
    """A command that was due, as it stands in the log."""

    key: Any
    command: CommandMessage
    offset: int
    time_ms: int


class ExpectedDeadlines:
    """Takes commands in the order of their log. Holds all that was ever set, each known by the position that set it."""

    def __init__(self, aggregate: Aggregate[Any, Any, Any], partition: int) -> None:
        self.takes_any, self._aggregate, self._partition = aggregate.deadlines, aggregate.name, partition
        self.settings: dict[Identity, Setting] = {}
        self.last: dict[Name, Setting] = {}  # of these, what nothing has replaced, cancelled or decided since
        self.ended: dict[Identity, int] = {}  # the others, and the offset that ended each
        self.came: list[Came] = []

    def waiting(self, key: Any, command_id: str) -> CommandMessage | None:
        """The scheduled command of that id, while it has not been decided."""
        setting = self.last.get((key, SCHEDULED + command_id))
        return None if setting is None else setting.command

    def see(self, key: Any, command: CommandMessage, offset: int, time_ms: int) -> None:
        """Note a command that was due."""
        if was_due(self._aggregate, command):
            self.came.append(Came(key, command, offset, time_ms))

    def schedules(
        self, key: Any, command: CommandMessage, offset: int, time_ms: int, placed: int | None = None
    ) -> bool:
        """Whether the command is to wait. `placed`: where one that was parked was taken up again."""
        if not self.takes_any or not is_later(command, time_ms):
            return False
        due = once_due(command, command_position(self._aggregate, self._partition, offset))
        at = offset if placed is None else placed
        self._set(Setting((key, SCHEDULED + command.id), command.due_ms or 0, due, at))
        return True

    def decided(
        self,
        key: Any,
        command: CommandMessage,
        effects: Iterable[Effect],
        offset: int,
        time_ms: int,
        placed: int | None = None,
    ) -> None:
        """The command was decided, with these effects. `placed`: where one that was parked was taken up again."""
        at = offset if placed is None else placed
        self._end((key, SCHEDULED + command.id), at)
        cause = command_position(self._aggregate, self._partition, offset)
        for name, due in effects_to_deadlines(effects, command.correlation_id, cause, time_ms).items():
            if due is None:
                self._end((key, PREFIX + name), at)
            else:
                self._set(Setting((key, PREFIX + name), *due, at))

    def _set(self, setting: Setting) -> None:
        self._end(setting.name, setting.offset)
        self.last[setting.name] = setting
        self.settings[identity(setting.name[0], setting.command)] = setting

    def _end(self, name: Name, offset: int) -> None:
        if (setting := self.last.pop(name, None)) is not None:
            self.ended[identity(name[0], setting.command)] = offset


def identity(key: Any, command: CommandMessage) -> Identity:
    """What no other setting's command has."""
    return key, command.id, command.causation_id

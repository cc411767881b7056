"""What a node does about time: sets deadlines, and lets scheduled commands wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.engine.state.deadlines import Deadlines, deadline_key
from pipeline.engine.state.table import RowCodec
from pipeline.engine.stats import LaneStats
from pipeline.errors import TopologyError
from pipeline.flow import command_position, effects_to_deadlines, is_later, once_due, without_metadata
from pipeline.flow.command_to_deadline import PREFIX, SCHEDULED
from pipeline.model import CommandMessage, DeadlineMessage, Effect, Rejected

Rows = Sequence[tuple[bytes, DeadlineMessage | None]]


class CommandPlace(NamedTuple):
    """Where a command stands, and since when."""

    partition: int
    offset: int
    time_ms: int


class Without:
    """Stands for the table of an aggregate that is declared without deadlines."""

    active = False


WITHOUT = Without()


class Scheduler:
    """The deadlines and scheduled commands of one partition of an aggregate. `table` None: it is declared without."""

    def __init__(self, aggregate: str, table: Deadlines | None, commands: RowCodec, stats: LaneStats) -> None:
        self.aggregate, self.table, self._stats = aggregate, table, stats
        self._encode, self._decode = commands.encode, commands.decode

    # --- deadlines ----------------------------------------------------------------------------------------------------

    def rows(self, effects: Iterable[Effect], key: bytes, command: CommandMessage, at: CommandPlace) -> Rows:
        """Encode these effects for `keep`. If it raises, nothing has happened."""
        if self.table is None:
            raise TopologyError(f"{self.aggregate!r} decides on deadlines, but is declared with deadlines=False")
        cause = command_position(self.aggregate, at.partition, at.offset)
        found: list[tuple[bytes, DeadlineMessage | None]] = []
        for name, due in effects_to_deadlines(effects, command.correlation_id, cause, at.time_ms).items():
            row = None if due is None else DeadlineMessage(due[0], self._encode(due[1]))
            found.append((deadline_key(key, PREFIX + name), row))
        return found

    def keep(self, rows: Rows) -> None:
        """Set and cancel them."""
        assert self.table is not None
        for row_key, row in rows:
            if row is not None:
                self._stats.deadlines_set += 1
            elif not self.table.active or self.table.get(row_key) is None:
                continue
            else:
                self._stats.deadlines_cancelled += 1
            self.table.put(row_key, row)

    # --- scheduled commands -------------------------------------------------------------------------------------------

    def waiting(self, key: bytes, command: CommandMessage) -> CommandMessage | None:
        """The scheduled command of that id which has not been decided yet; it may be under way."""
        if self.table is None or not self.table.active:
            return None
        row = self.table.get(deadline_key(key, SCHEDULED + command.id))
        found: CommandMessage | None = None if row is None else self._decode(row.command)
        return found

    def rejection(self, command: CommandMessage, waiting: CommandMessage | None, time_ms: int) -> Rejected | None:
        """Why it can neither wait nor take the place of the one that waits under its id."""
        if self.table is None:
            return Rejected("no_deadlines") if is_later(command, time_ms) else None
        if waiting is None or self._encode(without_metadata(waiting)) == self._encode(without_metadata(command)):
            return None
        return Rejected("id_reused", {"position": waiting.causation_id or ""})

    def put_off_if_early(self, key: bytes, command: CommandMessage, at: CommandPlace) -> bool:
        """Whether the command waits from now on, in the place of one that waited under its id; else decide it."""
        if self.table is None or not is_later(command, at.time_ms):
            return False
        due = once_due(command, command_position(self.aggregate, at.partition, at.offset))
        row = DeadlineMessage(command.due_ms or 0, self._encode(due))
        self.table.put(deadline_key(key, SCHEDULED + command.id), row)
        self._stats.scheduled += 1
        return True

    def forget(self, key: bytes, command: CommandMessage) -> None:
        """Delete the row of a scheduled command once it is decided."""
        row_key = deadline_key(key, SCHEDULED + command.id)
        if self.table is not None and self.table.active and self.table.get(row_key) is not None:
            self.table.put(row_key, None)

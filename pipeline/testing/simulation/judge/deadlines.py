"""What must be in the table of deadlines and must have been sent, told from the log; and what is, held against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.engine.state.deadlines import deadline_key, order_prefix
from pipeline.engine.state.table import RowCodec
from pipeline.flow.command_to_deadline import SCHEDULED
from pipeline.model import NEVER, DeadlineMessage
from pipeline.testing.simulation.judge.differences import Rows
from pipeline.verify.replay.expected_deadlines import ExpectedDeadlines, identity

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World


def rows_to_come(agenda: ExpectedDeadlines, command: Callable[[Any], bytes], row: Callable[[Any], bytes]) -> Rows:
    """The rows by key, once all is settled. `command`, `row`: how these are written."""
    came = {identity(each.key, each.command) for each in agenda.came}
    rows: dict[bytes, bytes] = {}
    for (key, name), setting in agenda.last.items():
        due_ms = setting.due_ms
        if identity(key, setting.command) in came:
            if not name.startswith(SCHEDULED):
                continue
            due_ms = NEVER  # sent, and parked instead of decided
        rows[deadline_key(key, name)] = row(DeadlineMessage(due_ms, command(setting.command)))
    return rows


def fired_wrongly(world: World, agenda: ExpectedDeadlines, where: str) -> Iterator[str]:
    """Each command that was due must have been set before, as it stands, and come once, not before its time."""
    times = Counter(identity(each.key, each.command) for each in agenda.came)
    yield from (f"{where}: {name} has come {n} times" for name, n in times.items() if n > 1)
    for key, command, offset, time_ms in agenda.came:
        setting = agenda.settings.get(identity(key, command))
        if setting is None or setting.command != command or setting.offset >= offset:
            yield f"{where}@{offset}: nothing has set {command}"
        elif time_ms < setting.due_ms - world.ahead_ms:
            yield f"{where}@{offset}: {command} was due at {setting.due_ms} and came at {time_ms}"


def out_of_order(where: str, rows: Rows, deadlines: Rows, codec: RowCodec) -> Iterator[str]:
    """Findings about the order of time on a disk, which must be that of its rows."""
    order = order_prefix(where.partition("-")[0])
    places = {key[len(order) :] for key in rows if key.startswith(order)}
    due = {codec.decode(data).due_ms.to_bytes(8, "big") + key for key, data in deadlines.items()}
    if places != due:
        yield f"{where}: the order of time has {sorted(places)}, and should have {sorted(due)}"


def overdue(world: World, tables: Mapping[str, RowCodec]) -> Iterator[str]:
    """What is committed and due, and has not been sent. `tables`: how the rows of each changelog are read."""
    now_ms = world.kafka.clock.time_ms()
    for topic, codec in tables.items():
        for log in world.kafka.topics[topic].logs:
            last = {record.key(): record.value() for record in log.records if record.decided}
            for key, value in last.items():
                if value is not None and codec.decode(value).due_ms <= now_ms:
                    yield f"{topic}-{log.tp.partition}: {key[4:].decode()} is due"

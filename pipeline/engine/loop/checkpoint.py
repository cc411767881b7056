"""The checkpoint: the one place where effects become durable. Kafka first, the local tables after it, never before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.engine.loop.task import Task
from pipeline.engine.ports import TP, Clock, Position, Producer
from pipeline.engine.state.positions import CAUGHT_UP_MS, changelog_position, source_position
from pipeline.engine.state.table import Pairs, Table
from pipeline.errors import EncodeError, RowRefused

FLUSH_ROWS = 200_000  # a crash costs the roll-forward of at most so many rows a task, or of so many seconds
FLUSH_S = 60.0


def checkpoint(
    tasks: Sequence[Task],
    producer: Producer,
    group: object,
    clock: Clock,
    patience_s: float,
    unended: Mapping[TP, tuple[str, ...]],
    *,
    leaves: bool = False,
) -> None:
    """Commit all that `tasks` have folded since their last commit. The producer's transaction is open.

    `unended`, `leaves`: see `Position`.

    Steps 1 and 2, fold and produce, have happened in the lane. Raises TransactionAborted or LaneFatal with nothing
    changed here; either way the stores hold a committed prefix of their changelogs.
    """
    # All of it within the patience: what is left after step 3 is for step 4.
    deadline_s = clock.monotonic_s() + patience_s

    # 3. The last value of each key touched goes to the changelog partition of the same number, each position to its own
    # topic: the group's offset may be forgotten.
    changes = [(task, table, changes_of(table)) for task in tasks for table in task.tables]
    for task, table, pairs in changes:
        produce_changes(producer, table.changelog, pairs, task.tp.partition)
    for task in tasks:
        task.note_position()
    ends = producer.flush(patience_s)

    # 4. Source positions join the transaction, with the group's generation as a fence; then it commits.
    now_ms = clock.time_ms()  # from before the commit: however long that takes, this is not too late
    reached = {task.tp: changelogs_of(task, ends) for task in tasks}
    positions = {
        task.tp: Position(
            task.position,
            reached[task.tp],
            unended.get(task.tp, ()),
            task.standing,
            task.parking.partitions,
            task.notes,
            leaves,
            task.pause,
        )
        for task in tasks
        if task.position is not None
    }
    producer.commit(positions, group, max(0.0, deadline_s - clock.monotonic_s()))

    # 5. Only now the local tables: rows, source position and changelog position in one atomic write per task.
    written: list[tuple[Task, int]] = []
    for task in tasks:
        if task.position is not None:
            rows: list[tuple[bytes, bytes | None]] = []
            marks = {source_position(task.tp.topic): task.position, CAUGHT_UP_MS: now_ms}
            for owner, table, pairs in changes:
                if owner is task:
                    kept, own_marks = table.kept(pairs)
                    rows += kept
                    marks |= own_marks
                    if (end := ends.get(TP(table.changelog, task.tp.partition))) is not None:
                        marks[changelog_position(table.changelog)] = end
            task.store.write(rows, marks)
            written.append((task, len(rows)))
    # After all writes: stores share databases, and one flush is enough for all that are due.
    for task, count in written:
        flush_when_due(task, count, clock)

    # 6. Readers may see the new positions.
    for task in tasks:
        for table in task.tables:
            table.mark_committed()
        task.mark_committed(reached[task.tp])


def changes_of(table: Table) -> Pairs:
    """The changed rows of a table, encoded. Raises RowRefused if a row does not fit its schema."""
    try:
        return table.changes()
    except EncodeError as error:
        raise RowRefused(str(error)) from error


def produce_changes(
    producer: Producer, changelog: str, pairs: Sequence[tuple[bytes, bytes | None]], partition: int
) -> None:
    """Queue the changes of one table. Only the last record has a delivery callback, as each costs time."""
    for key, value in pairs[:-1]:
        producer.produce(changelog, key, value, partition)
    for key, value in pairs[-1:]:
        producer.produce_last(changelog, key, value, partition)


def changelogs_of(task: Task, ends: Mapping[TP, int]) -> dict[str, tuple[int, int]]:
    """The ends of the task's changelogs with this commit."""
    moved = {changelog: ends.get(TP(changelog, task.tp.partition)) for changelog in task.changelogs}
    return {changelog: (moved[changelog] or last, identity) for changelog, (last, identity) in task.changelogs.items()}


def flush_when_due(task: Task, rows: int, clock: Clock) -> None:
    """Flush the store if due. There is no write-ahead log, so this bounds the roll-forward after a crash."""
    task.unflushed += rows
    now = clock.monotonic_s()
    if task.unflushed and (task.unflushed >= FLUSH_ROWS or now - task.flushed_s >= FLUSH_S):
        task.store.flush()
        task.unflushed, task.flushed_s = 0, now

"""What is to be remembered of the commands of one partition, told from their log alone."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.flow import is_later, is_old, last_issue_ms, too_late
from pipeline.model import CommandMessage, EventMessage, Idempotency, Rejected
from pipeline.verify.replay.expected_deadlines import ExpectedDeadlines


class Decided(NamedTuple):
    """An acceptance with its events decoded."""

    version: int
    events: tuple[EventMessage, ...]


class Given(NamedTuple):
    """A command that was decided, and what was decided; None if retention has taken the command."""

    key: Any
    command: CommandMessage
    offset: int
    time_ms: int
    outcome: Any
    placed: tuple[int, int] | None = None  # of one that was parked: offset and time from which it is remembered
    read: str | None = None  # of copies; see Copies.position

    @property
    def place(self) -> tuple[int, int]:
        """Offset and time from which it is remembered."""
        return self.placed or (self.offset, self.time_ms)


class ExpectedReplies:
    """Takes commands in the order of their log. Holds all that were decided; `idempotency` None: knows none again.

    `agenda`: which commands wait; it takes the same commands.
    """

    def __init__(self, idempotency: Idempotency | None, agenda: ExpectedDeadlines) -> None:
        self.idempotency, self.agenda = idempotency, agenda
        self.decided: list[Given] = []
        self.last: dict[tuple[Any, str], Given] = {}  # by key and id
        self._old = 0  # so many of the first are too old to be known again
        self._forgotten_ms = 0

    def known(self, key: Any, command: CommandMessage, offset: int, time_ms: int) -> Given | Rejected | None:
        """What answers a command that is not to be decided: what was decided before, or a rejection."""
        if self.idempotency is None:
            return self._refused(key, command, time_ms)
        while self._old < len(self.decided) and self.is_old(self.decided[self._old], offset, time_ms):
            forgotten = self.decided[self._old]
            last_ms = last_issue_ms(forgotten.place[1], forgotten.command.issued_ms)
            self._forgotten_ms = max(self._forgotten_ms, last_ms)
            self._old += 1
        return self._answered(key, command, offset, time_ms) or self._unanswered(
            key, command, time_ms, may_be_late=True
        )

    def known_again(
        self, key: Any, command: CommandMessage, time_ms: int, placed: tuple[int, int], *, new: bool
    ) -> Given | Rejected | None:
        """The expected reply of a parked command taken up again at `placed`. `new`: its id was unknown on arrival."""
        if self.idempotency is None:
            return self._refused(key, command, time_ms)
        return self._answered(key, command, *placed) or self._unanswered(key, command, time_ms, may_be_late=not new)

    def _answered(self, key: Any, command: CommandMessage, offset: int, time_ms: int) -> Given | Rejected | None:
        earlier = self.last.get((key, command.id))
        if earlier is not None and not self.is_old(earlier, offset, time_ms):
            same = _same(earlier.command, command)
            return earlier if same or earlier.outcome is None else Rejected("id_reused")
        return None

    def _unanswered(self, key: Any, command: CommandMessage, time_ms: int, *, may_be_late: bool) -> Rejected | None:
        if (refused := self._refused(key, command, time_ms)) or self.agenda.waiting(key, command.id):
            return refused
        assert self.idempotency is not None
        return too_late(command, self.idempotency, time_ms, self._forgotten_ms) if may_be_late else None

    def _refused(self, key: Any, command: CommandMessage, time_ms: int) -> Rejected | None:
        """Why it can neither wait nor take the place of one that waits."""
        if not self.agenda.takes_any:
            return Rejected("no_deadlines") if is_later(command, time_ms) else None
        waiting = self.agenda.waiting(key, command.id)
        return None if waiting is None or _same(waiting, command) else Rejected("id_reused")

    def remember(self, given: Given) -> None:
        """A command was decided."""
        if self.idempotency is not None:
            self.decided.append(given)
            self.last[given.key, given.command.id] = given

    def is_old(self, given: Given, offset: int, time_ms: int) -> bool:
        """Whether it is not to be known again by a command stored there and then."""
        assert self.idempotency is not None
        return is_old(self.idempotency, *given.place, offset, time_ms)


def _same(asked: CommandMessage, again: CommandMessage) -> bool:
    return bool((asked.body, asked.expected_version) == (again.body, again.expected_version))

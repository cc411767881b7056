"""What is to be remembered of the commands of one partition, told from their log alone."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.flow import is_old, last_issue_ms, too_late
from pipeline.model import CommandMessage, Idempotency, Rejected


class Given(NamedTuple):
    """A command that was decided, and what was decided; None where retention has taken the command."""

    key: Any
    command: CommandMessage
    offset: int
    time_ms: int
    outcome: Any
    placed: tuple[int, int] | None = None  # of one that was parked: offset and time from which it is remembered

    @property
    def place(self) -> tuple[int, int]:
        """Offset and time from which it is remembered."""
        return self.placed or (self.offset, self.time_ms)


class Memory:
    """Takes commands in the order of their log. Holds all that were decided; `idempotency` None: knows none again."""

    def __init__(self, idempotency: Idempotency | None) -> None:
        self.idempotency = idempotency
        self.decided: list[Given] = []
        self.last: dict[tuple[Any, str], Given] = {}  # by key and id
        self._old = 0  # so many of the first are too old to be known again
        self._forgotten_ms = 0

    def known(self, key: Any, command: CommandMessage, offset: int, time_ms: int) -> Given | Rejected | None:
        """What answers a command that is not to be decided: what was decided before, or a rejection."""
        if self.idempotency is None:
            return None
        while self._old < len(self.decided) and self.is_old(self.decided[self._old], offset, time_ms):
            forgotten = self.decided[self._old]
            last_ms = last_issue_ms(forgotten.place[1], forgotten.command.issued_ms)
            self._forgotten_ms = max(self._forgotten_ms, last_ms)
            self._old += 1
        return self._answered(key, command, offset, time_ms) or self._too_late(command, time_ms)

    def known_again(
        self, key: Any, command: CommandMessage, time_ms: int, placed: tuple[int, int], *, new: bool
    ) -> Given | Rejected | None:
        """The same of a command that was parked and is taken up again there; `new`: it was not known when it came."""
        if self.idempotency is None:
            return None
        return self._answered(key, command, *placed) or (None if new else self._too_late(command, time_ms))

    def _too_late(self, command: CommandMessage, time_ms: int) -> Rejected | None:
        assert self.idempotency is not None
        return too_late(command, self.idempotency, time_ms, self._forgotten_ms)

    def _answered(self, key: Any, command: CommandMessage, offset: int, time_ms: int) -> Given | Rejected | None:
        earlier = self.last.get((key, command.id))
        if earlier is not None and not self.is_old(earlier, offset, time_ms):
            asked, again = earlier.command, command
            same = (asked.body, asked.expected_version) == (again.body, again.expected_version)
            return earlier if same or earlier.outcome is None else Rejected("id_reused")
        return None

    def remember(self, given: Given) -> None:
        """A command was decided."""
        if self.idempotency is not None:
            self.decided.append(given)
            self.last[given.key, given.command.id] = given

    def is_old(self, given: Given, offset: int, time_ms: int) -> bool:
        """Whether it is not to be known again by a command stored there and then."""
        assert self.idempotency is not None
        return is_old(self.idempotency, *given.place, offset, time_ms)

"""Whether a failed lane is restarted, and after what pause. A rule, without I/O and clock."""

from __future__ import annotations

from pipeline.errors import BrokerUnreachable, DatabaseUnreachable, LaneFatal, OutOfDescriptors

REOPEN_S = (0.1, 0.5, 1.0, 2.0, 5.0)
AWAY_S = 0.5  # on top of the seconds that it takes to find that no broker answers
CALM_S = 60.0  # a lane that has lived so long was opened rightly
FRUITLESS_MAX = 10  # lanes in a row that fail early and without a single commit, before the worker gives up


class RestartPolicy:
    """The failures of one service's lanes so far."""

    def __init__(self) -> None:
        self._fruitless = 0  # lanes in a row that have come to nothing

    def lived(self, seconds: float, *, committed: bool) -> None:
        """Record the end of a lane, and how long it lived."""
        if committed or seconds > CALM_S:
            self._fruitless = 0

    def pause_s(self, error: BaseException) -> float | None:
        """The pause before the next lane, after `error`; None if another lane would not help."""
        if isinstance(error, (BrokerUnreachable, DatabaseUnreachable)):  # however long: it comes back
            return AWAY_S
        # A lane that is closed gives its files back, and what else had taken them may, too.
        if not isinstance(error, (LaneFatal, OutOfDescriptors)) or self._fruitless >= FRUITLESS_MAX:
            return None
        pause_s = REOPEN_S[min(self._fruitless, len(REOPEN_S) - 1)]
        self._fruitless += 1
        return pause_s

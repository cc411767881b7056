"""How much a lane takes at once: as much as it folds and commits within its budget. A rule, without I/O and clock.

A transaction that stays open for long holds up who reads what it writes, and in the end the broker aborts it. So a turn
of a lane has a budget of time, and the next poll takes what the last turns show to fit in. Slow is not broken: whatever
a record costs, a turn folds some and commits them.
"""

from __future__ import annotations

FIRST = 64  # records of the first poll, when nothing is known
TURN_S = 1.0  # of folding before a commit
TURN_S_MAX = 10.0  # the limit if commits are slow; far below the time-out of a transaction
COMMIT_SHARE = 2.0  # a turn may fold so many times as long as its commit takes, or commits take most of the time
ABORTED_SHARE = 4  # after an abort, a transaction takes so much less
PAUSES_S = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # after so many aborts in a row


class Pace:
    """The pace of one lane. `take`: records of the next poll. `budget_s`: for how long a turn may fold.

    `commit_after`: records of several turns after which a commit is due, whatever the time.
    """

    def __init__(self, most: int, commit_after_max: int, *, careful: bool = False) -> None:
        """`careful`: begin with a transaction of one record. What ended the lane before may have been a single one.

        It may take longer than a transaction lives: then those before it are to be committed without it.
        """
        self._most, self._commit_after_max = most, commit_after_max
        self.take, self.budget_s = 1 if careful else min(FIRST, most), TURN_S
        self.commit_after = 1 if careful else commit_after_max
        self._fits = self.take  # records, by the last turn that found as many as it could take

    def folded(self, records: int, seconds: float) -> None:
        """A turn has folded so many records in that time."""
        fits = self._most if seconds <= 0 else int(records * self.budget_s / seconds)
        self._fits = max(1, min(fits, self._most)) if records >= self.take or fits < self.take else self.take
        self.take = min(self.take, self._fits)

    def committed(self, seconds: float) -> None:
        """A commit has taken so long. Only what was committed is a reason to take more."""
        self.budget_s = min(TURN_S_MAX, max(TURN_S, COMMIT_SHARE * seconds))
        self.take = min(2 * self.take, self._fits)
        self.commit_after = min(2 * self.commit_after, self._commit_after_max)

    def aborted(self, times: int) -> float:
        """The transaction was aborted, for so many times in a row; returns for how long to wait in seconds."""
        self.take = self._fits = self.commit_after = max(1, min(self.take, self.commit_after) // ABORTED_SHARE)
        return PAUSES_S[min(times, len(PAUSES_S)) - 1]

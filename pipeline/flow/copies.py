"""replica -> command: what a decision reads of its service's replicas, and at which position."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.model.aggregate import Aggregate
from pipeline.model.projection.projection import Copy
from pipeline.model.records.token import Token

Find = Callable[[str], tuple[int, int, Any]]  # key -> its partition, the offset up to which that is applied, the row


class Copies:
    """The copies passed to `decide`, and the position at which the last decision read them.

    `finders`: of each, the topic that it follows and what finds its rows. All that one decision reads of a partition
    has to be as of one offset.

    `position`: a token of what was read, each partition with the last offset that was applied; None if nothing was
    read. A partition of which nothing was applied yet is left out: what is not named was empty, or was not read.
    """

    def __init__(self, finders: Iterable[tuple[str, Find]]) -> None:
        self.position: str | None = None
        self._read: dict[tuple[str, int], int] = {}
        self._copies: list[Copy[Any]] = [_Noted(topic, find, self._read) for topic, find in finders]

    def begin(self) -> None:
        """Clear the position of the last decision. Call it before each command, decided or not."""
        self._read.clear()
        self.position = None

    def decide(self, decide: Callable[..., Any], command: Any, state: Any) -> Any:
        """Call `decide` with the copies."""
        decision = decide(command, state, *self._copies)
        if isinstance(decision, Iterator):
            decision = list(decision)  # all of it is decided now, even by a generator
        if self._read:
            ends = {place: end - 1 for place, end in self._read.items() if end}
            self.position = str(Token.of(ends)) or None  # plain text, as the codec wants it
        return decision


def empty(aggregate: Aggregate[Any, Any, Any]) -> Copies:
    """Return copies without a row of all that the aggregate reads."""
    return Copies([(replica.source.topic, lambda _: (0, 0, None)) for replica in aggregate.replicas])


class _Noted:
    """A copy that records the position of each read."""

    def __init__(self, topic: str, find: Find, read: dict[tuple[str, int], int]) -> None:
        self._topic, self._find, self._read = topic, find, read

    def get(self, key: str) -> Any | None:
        partition, end, row = self._find(key)
        self._read[self._topic, partition] = end
        return row

"""Taking partitions over: what members that are gone have left open there is ended, so that nobody has to wait for it.

Each commit notes whose it is, see `GroupConsumer.owners`. An owner that is no member of the group any more has lost its
partitions, and its open transaction would hide later records of all that it writes from readers until it times out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.engine.loop.identity import names
from pipeline.engine.ports import TP, Clock, GroupConsumer, Producer
from pipeline.errors import LaneFatal, TransactionAborted

log = logging.getLogger(__name__)

COMES_BACK_S = 6.0  # a broker that has stood still expels all members at once, and those that live come back by then


class Takeover:
    """Fences former owners of a lane's partitions that are gone.

    At once if the lane has been a member for a while and saw them go. A lane that has just become a member cannot tell
    who died from who is on the way back, and waits.
    """

    def __init__(self, consumer: GroupConsumer, producer: Producer, clock: Clock) -> None:
        self._consumer, self._producer, self._clock = consumer, producer, clock
        self._certain_s: float | None = (
            None  # from then on, who is no member is gone; None: as long as this lane is none
        )
        self._taken: list[TP] = []  # assigned, and not known yet whose they were
        self._others: set[TP] = set()  # of the assigned, those that others have owned
        self._owners: set[str] = set()  # of these, not looked for yet

    def assigned(self, partitions: Sequence[TP]) -> None:
        """Take note of partitions that are new here."""
        self._taken += partitions

    def removed(self, partitions: Sequence[TP]) -> None:
        """Forget partitions that are given up."""
        self._taken = [tp for tp in self._taken if tp not in partitions]
        self._others -= set(partitions)

    def lost(self) -> None:
        """The lane is no member any more."""
        self._certain_s = None
        self._owners.clear()

    def was_anothers(self, tp: TP) -> bool:
        """Whether another lane has committed there last, as far as is known since `step`."""
        return tp in self._others

    def step(self) -> None:
        """Find out whose the new partitions were, and fence who is gone, if it is time to. Raises BrokerUnreachable."""
        if self._taken:
            self._find_owners()
        if not self._owners or self._certain_s is None or self._clock.monotonic_s() < self._certain_s:
            return
        gone, self._owners = self._owners - names(self._consumer.members()), set()
        for name in sorted(gone):
            try:
                self._producer.fence(name)
                log.info("%s has left the group; its open transaction, if there was one, is ended", name)
            except (LaneFatal, TransactionAborted) as error:  # then it ends at its time-out
                log.warning("what %s has left open cannot be ended now: %s", name, error)

    def _find_owners(self) -> None:
        if self._certain_s is None:
            self._certain_s = self._clock.monotonic_s() + COMES_BACK_S
        taken, self._taken = self._taken, []
        others = {tp: owner for tp, owner in self._consumer.owners(taken).items() if owner != self._producer.name}
        self._others |= others.keys()
        self._owners |= set(others.values())

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
        self._owners: set[str] = set()  # not looked for yet

    def take(self, partitions: Sequence[TP]) -> set[TP]:
        """Note the former owners of these partitions. Return those owned by another. Raises BrokerUnreachable."""
        if self._certain_s is None:
            self._certain_s = self._clock.monotonic_s() + COMES_BACK_S
        owners = self._consumer.owners(partitions)
        self._owners |= set(owners.values()) - {self._producer.name}
        return {tp for tp, owner in owners.items() if owner != self._producer.name}

    def lost(self) -> None:
        """Forget the membership: the lane is no member any more."""
        self._certain_s = None
        self._owners.clear()

    def step(self) -> None:
        """Fence former owners that are gone, if it is time to. Raises BrokerUnreachable."""
        if not self._owners or self._certain_s is None or self._clock.monotonic_s() < self._certain_s:
            return
        gone, self._owners = self._owners - names(self._consumer.members()), set()
        for name in sorted(gone):
            try:
                self._producer.fence(name)
                log.info("%s has left the group; its open transaction, if there was one, is ended", name)
            except (LaneFatal, TransactionAborted) as error:  # then it ends at its time-out
                log.warning("the open transaction of %s cannot be ended now: %s", name, error)

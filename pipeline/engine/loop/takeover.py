"""Taking partitions over: the open transactions of members that are gone are ended, so that no reader waits for them.

Each commit notes whose it is, see `GroupConsumer.owners`. An owner that is no member of the group any more has lost its
partitions, and its open transaction would hide later records of all that it writes from readers until it times out.
Until that has been looked for, each commit also notes the owner before, as the one that takes over may be gone as soon.

And handing them over: a lane that ends leaves the group, with nothing open, if another is there to fold on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.engine.loop.identity import names, others
from pipeline.engine.ports import TP, Clock, GroupConsumer, Producer
from pipeline.errors import BrokerUnreachable, LaneFatal, TransactionAborted

if TYPE_CHECKING:
    from pipeline.engine.loop.task import Task

log = logging.getLogger(__name__)

COMES_BACK_S = 6.0  # a broker that has stood still expels all members at once, and those that live come back by then
AGAIN_S = 5.0  # after a producer could not be fenced
TRIES_MAX = 6
ASK_S = 2.0  # at the end of a lane
NOTED_MAX = 4  # former owners of a partition; what is noted beside an offset is bounded by the broker


class Takeover:
    """Fences former owners of a lane's partitions that are gone.

    At once if the lane has been a member for a while and saw them go. A lane that has just become a member cannot tell
    who died from who is on the way back, and waits. Who is a member at a take-over has given the partition up itself,
    or has opened another producer since: were it dead, the group would have waited for the end of its session.
    """

    def __init__(self, consumer: GroupConsumer, producer: Producer, clock: Clock) -> None:
        self._consumer, self._producer, self._clock = consumer, producer, clock
        # From then on, who is no member is gone. None as long as this lane is no member itself.
        self._certain_s: float | None = None
        self._taken: list[TP] = []  # assigned, and not known yet whose they were
        self._unclaimed: set[TP] = set()  # of the assigned, those that are noted as another's or nobody's
        self._unended: dict[TP, tuple[str, ...]] = {}  # other owners noted for each of the assigned, not looked for yet
        self._owners: set[str] = set()  # not looked for yet, those of partitions that have moved on included
        self._failed: Counter[str] = Counter()  # how often each could not be fenced
        self.leaves = False  # whether the lane ends, and leaves the group

    def assigned(self, partitions: Sequence[TP]) -> None:
        """Take note of partitions that are new here. None may be: a spare member is a member, too."""
        self._taken += partitions
        if self._certain_s is None:
            self._certain_s = self._clock.monotonic_s() + COMES_BACK_S

    def removed(self, partitions: Sequence[TP]) -> None:
        """Forget partitions that are given up."""
        self._taken = [tp for tp in self._taken if tp not in partitions]
        self._unclaimed -= set(partitions)
        for tp in partitions:
            self._unended.pop(tp, None)

    def lost(self) -> None:
        """The lane is no member any more."""
        self._certain_s = None
        self._owners.clear()

    def is_unclaimed(self, tp: TP) -> bool:
        """Whether this lane has to note itself there before it folds, as far as is known since `step`."""
        return tp in self._unclaimed

    @property
    def unended(self) -> Mapping[TP, tuple[str, ...]]:
        """What commits have to note: the former owners of each partition that may have left something open."""
        return self._unended

    def step(self) -> None:
        """Find out whose the new partitions were, and fence one owner that is gone, if it is time to.

        One at a time: the broker may be slow, and this lane has something else to do. Raises BrokerUnreachable.
        """
        if self._taken:
            self._find_owners()
            if self._owners:
                self._settle(self._owners & names(self._consumer.members()))
        if not self._owners or self._certain_s is None or self._clock.monotonic_s() < self._certain_s:
            return
        members = names(self._consumer.members())
        if self._producer.name not in members:
            return  # it is expelled itself, and about to hear of it: who else is gone shows once it is back
        self._settle(self._owners & members)
        for name in sorted(self._owners)[:1]:
            self._end(name)

    def look_for_heirs(self, tasks: Sequence[Task], ending: str) -> None:
        """Find out whether another member remains, which gets the partitions at once if this lane leaves the group.

        If one does, the commit that must follow notes no owner: nothing is open after it. Else the lane stays a member
        for its session: a restart in the slot then gets the partitions back without a rebalance. `ending`: the home of
        workers that end together with this one, "" if none do.
        """
        try:
            heirs = others(self._consumer.members(ASK_S), self._producer.name, ending)
        except BrokerUnreachable as error:
            log.warning("%s: %s; others get its partitions once its session is over", self._producer.name, error)
            return
        self.leaves = bool(heirs)
        for task in tasks:
            task.claims |= self.leaves

    def close(self) -> None:
        """Leave the group, if there are heirs, and close the consumer. All is committed, and the tables are closed."""
        if self.leaves:
            self._consumer.leave()
        self._consumer.close()

    def _end(self, name: str) -> None:
        try:
            self._producer.fence(name)
            event = {"event": "taken_over"}
            log.info("%s has left the group; its open transaction, if there was one, is ended", name, extra=event)
        except (LaneFatal, TransactionAborted) as error:
            log.warning("what %s has left open cannot be ended now: %s", name, error)
            self._failed[name] += 1
            if self._failed[name] < TRIES_MAX:
                self._certain_s = self._clock.monotonic_s() + AGAIN_S
                return
            del self._failed[name]  # it has ended at its time-out
        self._settle({name})

    def _settle(self, owners: Collection[str]) -> None:
        """Nothing of these is open any more, or they are there to end it."""
        self._owners -= set(owners)
        left = {tp: tuple(name for name in noted if name not in owners) for tp, noted in self._unended.items()}
        self._unended = {tp: noted for tp, noted in left.items() if noted}

    def _find_owners(self) -> None:
        noted = self._consumer.owners(self._taken)
        taken, self._taken = self._taken, []
        for tp in taken:
            owners = noted.get(tp, ())
            if owners[:1] != (self._producer.name,):
                self._unclaimed.add(tp)
            if others := tuple(name for name in owners if name != self._producer.name)[:NOTED_MAX]:
                self._unended[tp] = others
                self._owners.update(others)

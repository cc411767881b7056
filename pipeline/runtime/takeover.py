"""Taking partitions over: what members that are gone have left open there is ended, so that nobody has to wait for it.

Each commit notes whose it is, see `GroupConsumer.owners`. An owner that is no member of the group any more has lost its
partitions, and its open transaction would hide later records of all that it writes from readers until it times out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.errors import LaneFatal, TransactionAborted
from pipeline.runtime.identity import names
from pipeline.runtime.ports import TP, GroupConsumer, Producer

log = logging.getLogger(__name__)


def take_over(consumer: GroupConsumer, producer: Producer, partitions: Sequence[TP]) -> set[TP]:
    """Fences the last owners of partitions, where they are gone. Returns the partitions that somebody else has owned.

    Raises BrokerUnreachable.
    """
    owners = consumer.owners(partitions)
    others = set(owners.values()) - {producer.name}
    if others:
        for gone in sorted(others - names(consumer.members())):
            try:
                producer.fence(gone)
                log.info("%s has left the group; its open transaction, if there was one, is ended", gone)
            except (LaneFatal, TransactionAborted) as error:  # then it ends at its time-out
                log.warning("what %s has left open cannot be ended now: %s", gone, error)
    return {tp for tp, owner in owners.items() if owner != producer.name}

"""The start of a lane: decisions wait, for a bounded time, until the replicas that they read have caught up."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from pipeline.engine.copies.replica import ReplicaCopy
from pipeline.engine.ports import TP

log = logging.getLogger(__name__)


class ReplicaGate:
    """`replicas` that are to get to `ends` of their logs, until `until_s` of the lane's clock."""

    def __init__(self, service: str, replicas: Sequence[ReplicaCopy], ends: Mapping[TP, int], until_s: float) -> None:
        self._service, self._ends, self._until_s = service, ends, until_s
        self._late = list(replicas)

    def waits(self, reads: Collection[str], now_s: float) -> bool:
        """Whether decisions that read these replicas must wait."""
        if not (reads and self._late):
            return False
        self._late = [replica for replica in self._late if not replica.has_reached(self._ends)]
        if self._late and now_s >= self._until_s:
            names = ", ".join(replica.replica.name for replica in self._late)
            log.warning("%s: decides though these copies have not caught up: %s", self._service, names)
            self._late = []
        return any(replica.replica.name in reads for replica in self._late)

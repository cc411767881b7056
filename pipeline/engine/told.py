"""What a lane tells the log of its life: each line with the name of the event, for who reads lines by machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.engine.ports import TP, names_of
from pipeline.errors import LaneFatal, TransactionAborted

log = logging.getLogger(__name__)

HEALS_MAX = 2  # aborts in a row that are no warning yet: what folding again cures


def assignment(service: str, event: str, partitions: Sequence[TP]) -> None:
    """Tell that partitions are `assigned`, `revoked` or `lost`. Only the last is none of a normal rebalance."""
    level = logging.WARNING if event == "lost" else logging.INFO
    log.log(level, "%s: %s %s", service, event, names_of(partitions), extra={"event": event, "service": service})


def starts_over(service: str, aborted: TransactionAborted, times: int) -> None:
    """Tell that a transaction was aborted, the last of so many in a row."""
    level = logging.WARNING if times > HEALS_MAX else logging.INFO
    event = {"event": "aborted", "service": service}
    log.log(level, "%s: %s; folding again from the last commit", service, aborted, extra=event)


def left_open(service: str, error: LaneFatal) -> None:
    """Tell that a transaction could not be aborted: who takes the partitions over, or the broker, ends it."""
    log.warning("%s: %s", service, error)

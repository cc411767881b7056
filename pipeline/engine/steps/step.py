"""The interface of a task's steps: each runs one pure step of `flow` on a record and emits the results. No I/O here."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from pipeline.engine.ports import Producer, Record
from pipeline.engine.stats import LaneStats
from pipeline.flow import asked_by
from pipeline.model import CommandMessage, Rejected, TopicKind

log = logging.getLogger(__name__)

Encode = Callable[[Any], bytes]
REPLY_TOPIC = re.compile(rf"[A-Za-z0-9._-]{{1,240}}\.{TopicKind.REPLY.value}")
INBOX = re.compile(rf"[A-Za-z0-9._-]{{1,240}}\.{TopicKind.COMMAND.value}")
UNDELIVERABLE_KEPT = 1_000  # topics already warned of


class DecidedAt(NamedTuple):
    """When a parked record is folded again: the last offset folded by then, and the latest command time.

    `new`: whether it is a command whose id was unknown on arrival. `reserved`: the unique values reserved for it.
    """

    offset: int
    time_ms: int
    new: bool
    reserved: tuple[str, ...] = ()


class Step:
    """One step of the flow. `record`: the record to fold; `message`: its decoded value.

    If the topology's code raises, the step has had no effect: all of that code runs before the first effect. `name` is
    derived from the declared name and must stay stable. Methods that only commands need do nothing by default.

    `start`: where it begins if it is new to a service that has folded its source for long; see model.start. None if it
    is as old as its source.
    """

    name: str
    start: str | None = None

    def fold(self, key: bytes, record: Record, message: Any, placed: DecidedAt | None = None) -> None:
        """Run the step. `placed`: when a parked record is folded again."""
        raise NotImplementedError

    def reply_if_known(self, key: bytes, record: Record, message: Any) -> bool:
        """Reply at once to a command whose id was answered before, even if its key is parked. True if it was."""
        return False

    def tell_parked(self, record: Record, message: Any, cause: str) -> None:
        """Send the sender of a command the reply that it is parked."""

    def would_expire(self, message: Any, time_ms: int) -> bool:
        """Whether a command that is stored again at that time is rejected as expired."""
        return False

    def reject(self, key: bytes, record: Record, message: Any, placed: DecidedAt, rejected: Rejected) -> None:
        """Reject a command that will never be decided."""


class Output:
    """Sends and counts what the steps of a task emit. `reply_topics`: further topics that may receive replies."""

    def __init__(self, producer: Producer, stats: LaneStats, reply_topics: Collection[str] = ()) -> None:
        self.emit = producer.produce  # topic, key, value, partition (-1: the key decides)
        self.stats, self._within = stats, reply_topics
        self._partitions = producer.partitions
        self._undeliverable: set[str] = set()

    def reply(self, command: CommandMessage, data: bytes) -> None:
        """Send the reply to a command. One that cannot be delivered is counted, and logged once for each topic."""
        topic, number, key = f"{command.reply_to}//".split("/", 2)
        if (
            key[:-2]
            and number.isascii()
            and number.isdecimal()
            and (
                REPLY_TOPIC.fullmatch(topic)
                or topic in self._within
                or (INBOX.fullmatch(topic) and _is_asker(key[:-2], command))
            )
            and int(number[:9]) < self._partitions(topic)
        ):
            self.emit(topic, key[:-2].encode(), data, int(number))
            self.stats.replies += 1
            return
        self.stats.undeliverable_replies += 1
        if topic not in self._undeliverable and len(self._undeliverable) < UNDELIVERABLE_KEPT:
            self._undeliverable.add(topic)
            log.warning(
                "replies to %.300r cannot be delivered: no `<topic>/<partition>/<key>` of a *.reply topic", topic
            )


def _is_asker(key: str, command: CommandMessage) -> bool:
    """Whether the command's id names the aggregate `key` as the asker, and its cause is inside the pipeline."""
    return command.causation_id is not None and asked_by(command.id).partition("/")[2] == key

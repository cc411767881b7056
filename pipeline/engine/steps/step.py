"""The nodes of a task: each runs one pure step of `flow` on a record and hands on what comes out. No I/O here."""

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
UNDELIVERABLE_KEPT = 1_000  # topics that have been complained of


class DecidedAt(NamedTuple):
    """When a record that was parked is taken up again: the last offset folded, the latest time of a command by then.

    `new`: whether it is a command whose id was looked up when it came, and was not answered. `reserved`: the unique
    values that are reserved for it by now.
    """

    offset: int
    time_ms: int
    new: bool
    reserved: tuple[str, ...] = ()


class Step:
    """One step of the flow. `record`: what is folded, with its key; `message`: its value, decoded.

    Where the topology's code raises, nothing has happened yet: all of it runs before the node's first effect. `name`
    stays the same for as long as what is declared is called the same. What only commands need is empty here.
    """

    name: str

    def fold(self, key: bytes, record: Record, message: Any, placed: DecidedAt | None = None) -> None:
        """Runs the step. `placed`: of a record that was parked."""
        raise NotImplementedError

    def reply_if_known(self, key: bytes, record: Record, message: Any) -> bool:
        """Answers what needs no step to be answered, whatever the record's key waits for; True where that was all."""
        return False

    def tell_parked(self, record: Record, message: Any, cause: str) -> None:
        """Tells who waits for an answer that it will take longer."""

    def reject(self, key: bytes, record: Record, message: Any, placed: DecidedAt, rejected: Rejected) -> None:
        """Answers a record on which the step will never be run."""


class Output:
    """Where the steps of a task send what comes out, and count it. `reply_topics`: more topics that take replies."""

    def __init__(self, producer: Producer, stats: LaneStats, reply_topics: Collection[str] = ()) -> None:
        self.emit = producer.produce  # topic, key, value, partition (-1: the key decides)
        self.stats, self._within = stats, reply_topics
        self._partitions = producer.partitions
        self._undeliverable: set[str] = set()

    def reply(self, command: CommandMessage, data: bytes) -> None:
        """Sends the reply to a command; one that cannot be delivered is counted, and said once for each topic."""
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
    """Whether a command says that it was asked by the aggregate `key`, to whose command topic its reply goes."""
    return command.causation_id is not None and asked_by(command.id).partition("/")[2] == key

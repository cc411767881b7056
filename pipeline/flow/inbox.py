"""bytes -> command or reply: what stands on the command topic of an aggregate, told apart before any step runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.errors import UndecodableRecord
from pipeline.flow.ask_to_command import reply_to_command
from pipeline.model.aggregate import Aggregate, Rejected
from pipeline.model.records.messages import Acceptance, CommandMessage, Parked, ReplyMessage
from pipeline.model.records.topics import TopicKind


class ReservationReply(NamedTuple):
    """The reply to a reservation. `body`: whether the value is reserved now, or is another's.

    `place`: of the command that waits for it; see place_of. `value`: `<name of the Unique>/<reservation key>`.
    """

    place: str
    value: str
    body: Acceptance | Rejected

    @property
    def rejected(self) -> Rejected | None:
        """The rejection of the command that waits; None if it has the value."""
        if isinstance(self.body, Acceptance):
            return None
        return Rejected(self.body.reason, {"unique": self.value.partition("/")[0]})


def place_of(topic: str, partition: int, offset: int) -> str:
    """The position of a command, as its reservations tell it in their ids and causes."""
    return f"{topic}/{partition}/{offset}"


def reservation_id(place: str, value: str) -> str:
    """The id of the command that reserves `value` for the command at `place`."""
    return f"{place}/{value}"


class Inbox:
    """Reads the command topic of an aggregate that asks others, or has unique values.

    `command`, `reply`: decoders of the two kinds of records there; they raise UndecodableRecord.
    """

    def __init__(
        self,
        aggregate: Aggregate[Any, Any, Any],
        command: Callable[[bytes | None], CommandMessage],
        reply: Callable[[bytes | None], ReplyMessage],
    ) -> None:
        self._name, self._asks = aggregate.name, bool(aggregate.asks)
        self._topic = TopicKind.COMMAND.topic(aggregate.name)
        self._command, self._reply = command, reply

    def decode(self, data: bytes | None) -> CommandMessage | ReservationReply | None:
        """A command; the reply to an Ask, as the command that it becomes; or the reply to a reservation.

        None if a reservation is parked, as its reply is still to come. Raises UndecodableRecord, also if it is a reply
        to what this aggregate has not sent.
        """
        if not self._asks:
            try:
                return self._command(data)
            except UndecodableRecord as error:
                try:
                    return self._of_reply(self._reply(data))
                except UndecodableRecord:
                    raise error from None
        try:
            reply = self._reply(data)  # by far the more frequent
        except UndecodableRecord:
            return self._command(data)
        return self._of_reply(reply)

    def _of_reply(self, reply: ReplyMessage) -> CommandMessage | ReservationReply | None:
        if self._asks and (command := reply_to_command(self._name, reply)) is not None:
            return command
        place, *value = reply.command_id.rsplit("/", 2)
        if len(value) != 2 or not place.startswith(f"{self._topic}/"):
            raise UndecodableRecord(f"a reply to {reply.command_id!r}, which {self._name!r} did not send")
        return None if isinstance(reply.body, Parked) else ReservationReply(place, "/".join(value), reply.body)

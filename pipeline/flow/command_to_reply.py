"""command -> reply: which commands get a stored reply or a rejection without being decided."""

from __future__ import annotations

from zlib import crc32

from pipeline.model.aggregate import Idempotency, Rejected
from pipeline.model.records.messages import CommandMessage, ReplyMessage
from pipeline.model.records.token import Token
from pipeline.model.records.topics import TopicKind

AHEAD_S_MAX = 60.0  # by how much a sender's clock may go before the broker's


def keep_ms(idempotency: Idempotency) -> int:
    """How long after a command was stored its id must be kept.

    A repetition is decided only within the window after its issue, which is at most `AHEAD_S_MAX` after its storing.
    """
    return int(1000 * (idempotency.window_s + AHEAD_S_MAX))


def without_metadata(command: CommandMessage) -> CommandMessage:
    """The command without the fields that differ in a resend."""
    return CommandMessage("", "", None, 0, command.body, command.expected_version)


def fingerprint(record: bytes) -> int:
    """Return the schema's id and a CRC-32 of the rest, as one number that identifies a command's encoded contents."""
    return int.from_bytes(record[1:5], "big") << 32 | crc32(record[5:])


def asked_before(earlier: ReplyMessage, now: int) -> Rejected | None:
    """The rejection `id_reused` if `earlier` replied to other contents under the same id; else None.

    Contents written with another version of the schema cannot be compared, and count as equal.
    """
    if earlier.fingerprint == now or earlier.fingerprint >> 32 != now >> 32:
        return None
    place = TopicKind.COMMAND.topic(earlier.aggregate), earlier.partition
    return Rejected("id_reused", {"position": str(Token.of({place: earlier.offset}))})


def is_old(idempotency: Idempotency, offset: int, time_ms: int, now_offset: int, now_ms: int) -> bool:
    """Whether the reply to the command at `offset`, stored at `time_ms`, has expired for that at `now_offset`."""
    return offset <= now_offset - idempotency.records or time_ms < now_ms - keep_ms(idempotency)


def last_issue_ms(time_ms: int, issued_ms: int) -> int:
    """The largest `issued_ms` that a resend of the command stored at `time_ms` can carry.

    A command with a cause inside the pipeline may carry any, but is never resent.
    """
    return max(time_ms, min(issued_ms, time_ms + int(1000 * AHEAD_S_MAX)))


def too_late(command: CommandMessage, idempotency: Idempotency, time_ms: int, forgotten_ms: int) -> Rejected | None:
    """The rejection of a command that may have been answered before and forgotten; None if it cannot have been.

    `time_ms`: when it was stored. `forgotten_ms`: of the commands whose ids are forgotten, the last moment at
    which one was stored or, by its sender's clock, issued. A command with a cause inside the pipeline comes exactly
    once, however late.
    """
    if command.causation_id is not None:
        return None
    times = {"issued_ms": str(command.issued_ms), "stored_ms": str(time_ms)}
    if time_ms - command.issued_ms > 1000 * idempotency.window_s:
        return Rejected("expired", times)
    if command.issued_ms - time_ms > 1000 * AHEAD_S_MAX:
        ahead_s = -((time_ms - command.issued_ms) // 1000)  # rounded up
        clock = f"the sender's is {ahead_s} s ahead of the broker's; {AHEAD_S_MAX:g} s are allowed"
        return Rejected("issued_in_the_future", {**times, "clock": clock})
    if command.issued_ms <= forgotten_ms:
        return Rejected("expired", {"issued_ms": str(command.issued_ms), "forgotten_ms": str(forgotten_ms)})
    return None

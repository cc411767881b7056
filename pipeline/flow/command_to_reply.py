"""command -> reply: what the sender is told, and which commands are answered without being decided."""

from __future__ import annotations

from pipeline.model.aggregate import Idempotency, Rejected
from pipeline.model.messages import CommandMessage, ReplyMessage

AHEAD_S_MAX = 300.0  # by how much a sender's clock may go before the broker's


def keep_ms(idempotency: Idempotency) -> int:
    """For how long after it was stored a command's id has to be remembered.

    A repetition is decided only within the window after its issue, which is at most `AHEAD_S_MAX` after its storing.
    """
    return int(1000 * (idempotency.window_s + AHEAD_S_MAX))


def asked_before(earlier: ReplyMessage, fingerprint: int) -> Rejected | None:
    """Whether a command whose id was answered by `earlier` asks for something else: then the rejection, else None."""
    if earlier.fingerprint == fingerprint:
        return None
    return Rejected("id_reused", {"position": f"{earlier.aggregate}.command/{earlier.partition}/{earlier.offset}"})


def too_late(command: CommandMessage, idempotency: Idempotency, time_ms: int, forgotten_ms: int) -> Rejected | None:
    """The rejection of a command that may have been answered before, and forgotten; None where that cannot be.

    `time_ms`: when it was stored. `forgotten_ms`: when the last command was stored whose id is forgotten. A command
    with a cause inside the pipeline comes exactly once, however late.
    """
    if command.causation_id is not None:
        return None
    if time_ms - command.issued_ms > 1000 * idempotency.window_s:
        return Rejected("expired", {"issued_ms": str(command.issued_ms), "stored_ms": str(time_ms)})
    if command.issued_ms - time_ms > 1000 * AHEAD_S_MAX:
        return Rejected("issued_in_the_future", {"issued_ms": str(command.issued_ms), "stored_ms": str(time_ms)})
    if command.issued_ms <= forgotten_ms:
        return Rejected("expired", {"issued_ms": str(command.issued_ms), "forgotten_ms": str(forgotten_ms)})
    return None

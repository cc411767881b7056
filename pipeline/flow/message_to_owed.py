"""message -> owed: what a saga has to send, to wait for and to wait for no longer, once its state has changed."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.model.aggregate import Rejected
from pipeline.model.messages import CommandMessage, ReplyMessage
from pipeline.model.saga import Ask, Replied, Saga, Timer


class Due(NamedTuple):
    """The difference between two plans of one saga."""

    asks: tuple[Ask, ...]  # to be sent, in order
    timers: tuple[Timer, ...]  # to be set
    over: tuple[str, ...]  # names of timers to be cancelled


NOTHING = Due((), (), ())


def state_to_due(saga: Saga[Any], before: Any, after: Any) -> Due:
    """What the state `after` owes and the one `before` did not.

    Raises ValueError where a plan owes two different things under one name.
    """
    if saga.turn is not None and saga.turn(before) == saga.turn(after):
        return NOTHING
    old_asks, old_timers = _named(saga, before)
    asks, timers = _named(saga, after)
    return Due(
        tuple(ask for name, ask in asks.items() if name not in old_asks),
        tuple(timer for name, timer in timers.items() if name not in old_timers),
        tuple(name for name in old_timers if name not in timers),
    )


def _named(saga: Saga[Any], state: Any) -> tuple[dict[tuple[str, int], Ask], dict[str, Timer]]:
    asks: dict[tuple[str, int], Ask] = {}
    timers: dict[str, Timer] = {}
    for owed in saga.plan(state):
        if isinstance(owed, Timer):
            twice = timers.setdefault(owed.name, owed) is not owed
        else:
            twice = asks.setdefault((owed.step, owed.attempt), owed) is not owed
        if twice:
            raise ValueError(
                f"saga {saga.name!r}: its plan names {owed[0]!r} twice; each thing owed has a name of its own"
            )
    return asks, timers


def ask_to_command(
    saga: str, key: str, ask: Ask, cause: str, correlation_id: str, time_ms: int, reply_to: str
) -> CommandMessage:
    """The command as it goes out; `cause` is the identity of the saga's event, `time_ms` that event's time."""
    command_id = f"{saga}/{key}/{ask.step}/{ask.attempt}"
    return CommandMessage(command_id, correlation_id, cause, time_ms, ask.command, None, reply_to)


def reply_to_message(saga: str, key: str, reply: ReplyMessage) -> Replied | None:
    """What a reply tells the saga `key`; None where it answers nothing that this saga has asked."""
    prefix = f"{saga}/{key}/"
    step, _, attempt = reply.command_id.removeprefix(prefix).rpartition("/")
    if not reply.command_id.startswith(prefix) or not step or not (attempt.isascii() and attempt.isdecimal()):
        return None
    if isinstance(reply.body, Rejected):
        return Replied(step, int(attempt), False, reply.body.reason, dict(reply.body.details))
    return Replied(step, int(attempt), True)

"""The trace that a command belongs to: the span of its sending, or what a request from outside has brought along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from pipeline.engine.ports import TP, Record
from pipeline.engine.tracing.port import HEADER, Kind, Span, Tracer, Value, sampled, sampled_of
from pipeline.model import Rejected, ReplyMessage

if TYPE_CHECKING:
    from pipeline.client.commands import Ready

_brought: ContextVar[bytes | None] = ContextVar(HEADER, default=None)


@contextmanager
def continued(header: bytes | str | None) -> Iterator[None]:
    """Have what is sent within belong to the trace of this `traceparent`, if that is sampled."""
    token = _brought.set(sampled(header))
    try:
        yield
    finally:
        _brought.reset(token)


def brought() -> bytes | None:
    """Return the traceparent of the request that is served here; None if it belongs to no trace."""
    return _brought.get()


def begun(tracer: Tracer | None, ready: Ready) -> Ready:
    """Return a command with the trace that it belongs to; the span of its sending begins."""
    parent = _brought.get()
    if tracer is None:
        return ready if parent is None else ready._replace(traceparent=parent)
    about = _about("send", ready.topic) | {
        "messaging.kafka.message.key": ready.key.decode(),
        "messaging.message.id": ready.id,
        "messaging.message.conversation_id": ready.correlation_id,
    }
    span = tracer.start(f"send {ready.topic}", Kind.PRODUCER, about, None if tracer.is_within() else parent)
    return ready if span.header is None else ready._replace(traceparent=span.header, span=span)


def stored(span: Span, partition: int, offset: int) -> None:
    """End the span of a sending, as the broker has stored the command there."""
    span.set({"messaging.destination.partition.id": str(partition), "messaging.kafka.offset": offset})
    span.end()


def failed(span: Span, why: str, kind: str) -> None:
    """End the span of a sending that has failed."""
    span.fail(why, kind)
    span.end()


def received(tracer: Tracer, tp: TP, record: Record, reply: ReplyMessage) -> None:
    """Make the span of a reply that has arrived, if its command is traced."""
    parent = sampled_of(record.headers())
    if parent is None:
        return
    about = _about("receive", tp.topic) | {
        "messaging.destination.partition.id": str(tp.partition),
        "messaging.kafka.offset": record.offset(),
        "messaging.message.id": reply.command_id,
    }
    if isinstance(reply.body, Rejected):
        about["pipeline.rejected"] = reply.body.reason
    tracer.start(f"receive {tp.topic}", Kind.CONSUMER, about, parent).end()


def _about(operation: str, topic: str) -> dict[str, Value]:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }

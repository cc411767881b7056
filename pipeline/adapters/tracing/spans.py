"""A `Tracer` over OpenTelemetry's API."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Self

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from pipeline.engine.tracing.port import Attributes, Kind

if TYPE_CHECKING:
    from pipeline.engine.tracing.port import Span, Tracer

KINDS = {kind: SpanKind[kind.name] for kind in Kind}


class OtelSpan:
    """A `Span`."""

    __slots__ = ("_attached", "_now_ns", "_span", "header")

    def __init__(self, span: trace.Span, now_ns: Callable[[], int]) -> None:
        self._span, self._now_ns = span, now_ns
        self._attached: Token[Context] | None = None
        told = span.get_span_context()
        is_sampled = told.is_valid and told.trace_flags.sampled
        self.header = f"00-{told.trace_id:032x}-{told.span_id:016x}-01".encode() if is_sampled else None

    def __enter__(self) -> Self:
        self._attached = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._attached is not None:
            context.detach(self._attached)
            self._attached = None

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    def event(self, name: str, attributes: Attributes) -> None:
        self._span.add_event(name, dict(attributes), self._now_ns())

    def fail(self, why: str, kind: str) -> None:
        self._span.set_status(Status(StatusCode.ERROR, why))
        self._span.set_attribute("error.type", kind)

    def end(self, at_ns: int | None = None) -> None:
        self._span.end(self._now_ns() if at_ns is None else at_ns)


class OtelTracer:
    """A `Tracer`. `now_ns`: the clock of its spans."""

    def __init__(self, tracer: trace.Tracer, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._tracer, self.now_ns = tracer, now_ns

    def is_within(self) -> bool:
        return trace.get_current_span().get_span_context().is_valid

    def start(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        parent: bytes | None = None,
        links: Sequence[bytes] = (),
        at_ns: int | None = None,
    ) -> OtelSpan:
        within = None if parent is None else trace.set_span_in_context(NonRecordingSpan(_context(parent)), Context())
        linked = [Link(_context(link)) for link in links]
        began_ns = self.now_ns() if at_ns is None else at_ns
        span = self._tracer.start_span(name, within, KINDS[kind], dict(attributes), linked, began_ns)
        return OtelSpan(span, self.now_ns)


def _context(header: bytes) -> SpanContext:
    """Return what a traceparent says."""
    _, trace_id, span_id, flags = header.decode().split("-")[:4]
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


if TYPE_CHECKING:

    def _are_ports(tracer: OtelTracer, span: OtelSpan) -> tuple[Tracer, Span]:
        return tracer, span

"""Spans for people: a line each, for who tries tracing without a server."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

SHOWN = {
    "pipeline.message.type": "type",
    "messaging.kafka.message.key": "key",
    "pipeline.events": "events",
    "pipeline.rejected": "rejected",
    "error.type": "error",
}


def line(span: ReadableSpan) -> str:
    """Return a span as a line: trace, span, the span before it, service, name, milliseconds, and what it says."""
    told, attributes = span.get_span_context(), span.attributes or {}
    assert told is not None
    before = f"{span.parent.span_id:016x}" if span.parent else "-" * 16
    took_ms = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    service = span.resource.attributes.get("service.name", "")
    said = [f"{label}={attributes[name]!s}" for name, label in SHOWN.items() if name in attributes]
    said += [f"links={len(span.links)}"] if span.links else []
    said += ["FAILED"] if span.status.status_code is StatusCode.ERROR else []
    ids = f"trace {told.trace_id:032x} {told.span_id:016x} after {before}"
    return f"{ids}  {service}: {span.name}  {took_ms:.1f} ms  {' '.join(said)}".rstrip() + "\n"

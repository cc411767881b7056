"""Spans in memory, and a look at them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler

from pipeline.adapters.tracing.spans import OtelTracer


class Spans:
    """The tracers of a process whose spans stay in memory. Its clock goes on by a millisecond at each look."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter, self._sampler = InMemorySpanExporter(), ParentBased(sampler)
        self._numbers = count(1)
        self._tracers: dict[str, OtelTracer] = {}

    def of(self, service: str) -> OtelTracer:
        if service not in self._tracers:
            provider = TracerProvider(self._sampler, Resource.create({SERVICE_NAME: service}), shutdown_on_exit=False)
            provider.add_span_processor(SimpleSpanProcessor(self._exporter))
            self._tracers[service] = OtelTracer(provider.get_tracer("test"), lambda: next(self._numbers) * 1_000_000)
        return self._tracers[service]

    def clear(self) -> None:
        self._exporter.clear()

    @property
    def all(self) -> list[ReadableSpan]:
        """In the order of their beginnings."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)


def service(span: ReadableSpan) -> str:
    return str(span.resource.attributes[SERVICE_NAME])


def tree(spans: list[ReadableSpan]) -> Iterator[str]:
    """Yield the spans as lines, each below the one that it follows from and indented."""
    below: dict[int, list[ReadableSpan]] = {}
    ids = {span.context.span_id for span in spans if span.context}
    for span in spans:
        below.setdefault(span.parent.span_id if span.parent and span.parent.span_id in ids else 0, []).append(span)

    def lines(span_id: int, depth: int) -> Iterator[str]:
        for span in below.get(span_id, ()):
            yield f"{'  ' * depth}{service(span)}: {span.name}"
            assert span.context is not None
            yield from lines(span.context.span_id, depth + 1)

    yield from lines(0, 0)

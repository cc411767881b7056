"""Where a process' spans go, as the standard variables OTEL_* say; see docs/howto/tracing.md."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import TracingUnusable

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

    from pipeline.adapters.tracing.counting import CountingExporter
    from pipeline.engine.tracing.port import Tracer

EXPORTERS, PROTOCOL = "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL"
PLACES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SWITCHES_ON = (EXPORTERS, *PLACES)
LAST_S, INTERRUPT_S = 3.0, 1.0  # for the last spans, when a process ends; for an exporter to give up


def is_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says where spans are to go."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environ.get(EXPORTERS, "").strip().lower() == "none":
        return False
    return any(environ.get(name, "").strip() for name in SWITCHES_ON)


class Tracing:
    """The tracers of one process, one for each service: a span says as its `service.name` which service it is of.

    `OTEL_SERVICE_NAME`, if it is set, names all of them. `own`: the name of what is no service of a topology.
    """

    def __init__(self, own: str, processor: SpanProcessor | None, exporter: CountingExporter | None = None) -> None:
        """`processor`: takes the spans; None: the process has a provider already, which takes them."""
        from opentelemetry import trace

        self._processor, self._providers = processor, dict[str, Any]()
        self._exporter = exporter
        if processor is not None:
            trace.set_tracer_provider(self._provider(own))
        _add_ids_to_log_records()

    def of(self, service: str) -> Tracer:
        """Return the tracer of a service."""
        from opentelemetry import trace

        from pipeline.adapters.tracing.finding import SCOPE
        from pipeline.adapters.tracing.spans import OtelTracer

        if self._processor is None:
            return OtelTracer(trace.get_tracer(SCOPE))
        return OtelTracer(self._provider(service).get_tracer(SCOPE))

    def _provider(self, service: str) -> Any:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider

        named = os.environ.get("OTEL_SERVICE_NAME", "").strip()
        name = named or service
        if name not in self._providers:
            resource = Resource.create({} if named else {SERVICE_NAME: service})
            provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            assert self._processor is not None
            provider.add_span_processor(self._processor)
            self._providers[name] = provider
        return self._providers[name]

    def close(self) -> int:
        """Export what is left, within a bounded time. Return how many spans could not be exported since the start."""
        if self._processor is None:
            return 0
        last = threading.Thread(target=self._processor.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(LAST_S)
        if last.is_alive() and self._exporter is not None:
            self._exporter.shutdown()  # interrupts what it tries again
            last.join(INTERRUPT_S)
        return 0 if self._exporter is None else self._exporter.failed + self._exporter.under_way


def set_up(own: str, wanted: bool | None = None) -> Tracing | None:
    """Set up tracing if it is `wanted`; None: if the environment says so. Raises TracingUnusable.

    A provider that the process has already, as under `opentelemetry-instrument`, is used as it is.
    """
    if wanted is False or (wanted is None and not is_wanted()):
        return None
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingUnusable(f"tracing needs {error.name}: pip install 'kafka-pipeline[tracing]'") from None
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return Tracing(own, None)
    from pipeline.adapters.tracing.counting import CountingExporter

    exporter = CountingExporter(_exporter())
    return Tracing(own, BatchSpanProcessor(exporter), exporter)


def _exporter() -> SpanExporter:
    name = os.environ.get(EXPORTERS, "").strip().lower() or "otlp"
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        from pipeline.adapters.tracing.console import line

        return ConsoleSpanExporter(out=sys.stderr, formatter=line)
    if name != "otlp":
        raise TracingUnusable(f"{EXPORTERS}={name!r:.100}: spans can go to otlp or console; none turns tracing off")
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(PROTOCOL) or "http/protobuf"
    try:
        if protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc

            exporter: SpanExporter = OverGrpc()
            return exporter
        if protocol == "http/protobuf":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter()
    except ImportError as error:
        package = f"opentelemetry-exporter-otlp-proto-{'grpc' if protocol == 'grpc' else 'http'}"
        raise TracingUnusable(f"{PROTOCOL}={protocol} needs {error.name}: pip install {package}") from None
    raise TracingUnusable(f"{PROTOCOL}={protocol!r:.100} is not known here; give http/protobuf or grpc")


def _add_ids_to_log_records(before: Callable[..., logging.LogRecord] | None = None) -> None:
    """Have each log record say within which sampled span it was made, as `trace_id` and `span_id`."""
    from opentelemetry import trace

    make = before or logging.getLogRecordFactory()
    if getattr(make, "says_trace", False):
        return

    def made(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        told = trace.get_current_span().get_span_context()
        if told.is_valid and told.trace_flags.sampled:
            record.trace_id, record.span_id = f"{told.trace_id:032x}", f"{told.span_id:016x}"
        return record

    made.says_trace = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(made)

"""Where spans go: what the environment says, what it may not say, and how one looks on a console."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult

from pipeline.adapters.tracing import setup
from pipeline.adapters.tracing.console import line
from pipeline.adapters.tracing.counting import CountingExporter
from pipeline.adapters.tracing.setup import is_wanted, set_up
from pipeline.engine.tracing.port import Kind
from pipeline.errors import TracingUnusable
from tests.helpers.spans import Spans


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, False),
    ],
)
def test_the_environment_switches_it_on(environ: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environ) is wanted


def test_off_is_off_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    assert set_up("x", wanted=False) is None
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    assert set_up("x") is None


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "otlp or console"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/protobuf or grpc"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "pip install opentelemetry-exporter-otlp-proto-grpc"),
    ],
)
def test_what_cannot_be_used_says_what_can(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], why: str) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TracingUnusable, match=why):
        setup._exporter()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingUnusable, match=r"kafka-pipeline\[tracing\]"):
        set_up("x", wanted=True)


def test_the_console_exporter_writes_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    assert isinstance(setup._exporter(), ConsoleSpanExporter)
    spans = Spans()
    tracer = spans.of("orders")
    cause = tracer.start("process orders.command", Kind.CONSUMER, {"messaging.kafka.message.key": "1"})
    caused = tracer.start(
        "decide orders", Kind.INTERNAL, {"pipeline.rejected": "empty"}, cause.header, [cause.header or b""]
    )
    caused.fail("why", "Why")
    caused.end()
    cause.end()
    first, second = map(line, spans.all)
    assert first.endswith("orders: process orders.command  3.0 ms  key=1\n")
    assert " after ----------------  " in first
    assert second.endswith("orders: decide orders  1.0 ms  rejected=empty error=Why links=1 FAILED\n")
    assert first.split()[1] == second.split()[1]
    assert first.split()[2] == second.split()[4]


class Away(SpanExporter):
    """Tries again for ever, until it is told to end."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.ended.wait(60)
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.ended.set()


def test_an_exporter_that_gets_no_answer_does_not_keep_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "LAST_S", 0.05)
    made, exporter = setup.Tracing.__new__(setup.Tracing), CountingExporter(Away())
    made._processor, made._providers, made._exporter = BatchSpanProcessor(exporter), {}, exporter
    for _ in range(3):
        made.of("orders").start("x", Kind.INTERNAL, {}).end()
    began_s = time.monotonic()
    assert made.close() == 3
    assert time.monotonic() - began_s < 10


def test_nothing_of_opentelemetry_is_loaded_where_it_is_off() -> None:
    said = (
        "import sys, pipeline.client, pipeline.worker.main; from pipeline.adapters.tracing.setup import set_up; "
        "assert set_up('x') is None; print(sorted(n for n in sys.modules if n.startswith('opentelemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_each_service_has_its_name_unless_the_environment_gives_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(*services: str) -> list[Any]:
        made = setup.Tracing.__new__(setup.Tracing)
        made._processor, made._providers = setup_processor(), {}
        return [made._provider(each).resource.attributes["service.name"] for each in services]

    def setup_processor() -> Any:
        from opentelemetry.sdk.trace import SpanProcessor

        return SpanProcessor()

    assert names("orders", "users") == ["orders", "users"]
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    assert names("orders", "users") == ["shop", "shop"]

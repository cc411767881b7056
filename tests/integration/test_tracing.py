"""One order through real workers, from `pipeline send` on, as a collector receives it by OTLP."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.helpers.support import Shop, until

ORDER = {"customer": "anna", "country": "", "at": "2009-12-01T10:00", "checkout": "saga"}
ORDER |= {"lines": [{"code": "LAMP", "quantity": 2, "price": 1500}]}


class Collector(ThreadingHTTPServer):
    """Takes spans. `spans`: service and span, in the order of their arrival."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiving)
        self.spans: list[tuple[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Receiving(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for of in ExportTraceServiceRequest.FromString(body).resource_spans:
            (name,) = (each.value.string_value for each in of.resource.attributes if each.key == "service.name")
            self.server.spans += [(name, span) for scope in of.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
        yield made
        made.shutdown()


def send(shop: Shop, *words: str, fields: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", "send", *words, json.dumps(fields), "--bootstrap", shop.bootstrap]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.long
def test_an_order_is_one_trace_through_processes(shop: Shop, collector: Collector) -> None:
    workers = [shop.worker("--log-format", "json", "--service", "users", "--service", "orders")]
    workers += [shop.worker("--log-format", "json", "--service", name) for name in ("inventory", "payments", "reports")]
    workers += [shop.worker("--log-format", "json", "--service", name) for name in ("checkout_saga", "checkout_2pc")]
    for worker in workers:
        until("it serves", worker.addresses)
    send(shop, "inventory", "LAMP", "RegisterProduct", fields={"description": "a lamp"})
    send(shop, "inventory", "LAMP", "ReceiveStock", fields={"quantity": 10})
    send(shop, "users", "anna", "RegisterUser", fields={"name": "Anna", "country": "France"})
    done = send(shop, "orders", "1", "PlaceOrder", fields=ORDER)
    trace_id = bytes.fromhex(done.stderr.partition("trace ")[2].split()[0])

    def trace() -> list[tuple[str, Any]]:
        return [(service, span) for service, span in collector.spans if span.trace_id == trace_id]

    until("the row is there", lambda: any(span.name == "project revenue" for _, span in trace()))
    shop.settle()
    for worker in workers:
        assert worker.stop() == 0
    found = trace()
    services = {"orders", "checkout_saga", "checkout_2pc", "inventory", "payments", "reports", "pipeline-send"}
    assert {service for service, _ in found} == services
    ids = {span.span_id for _, span in found}
    assert [span.name for _, span in found if span.parent_span_id not in ids] == ["pipeline send"]
    names = {span.name for _, span in found}
    assert {"send orders.command", "receive cli.reply", "decide payments", "project units_sold"} <= names
    said = {each.key: each.value for _, span in found for each in span.attributes if span.name == "decide orders"}
    assert said["pipeline.events"].int_value == 1
    for worker in workers:
        for line in worker.log.read_text().splitlines():
            assert json.loads(line)["level"] in ("INFO", "WARNING"), line

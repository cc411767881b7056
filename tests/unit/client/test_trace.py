"""What a client does for the trace that a command belongs to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from pipeline.client.commands import Ready
from pipeline.client.sending import Sending
from pipeline.client.wire.trace import begun, brought, continued, failed, received, stored
from pipeline.engine.ports import TP
from pipeline.engine.tracing.port import HEADER, Kind
from pipeline.errors import Overloaded
from pipeline.model import Acceptance, Rejected, ReplyMessage
from tests.helpers.spans import Spans

READY = Ready("c-1", "users", "users.command", b"anna", b"value", 1, correlation_id="r-1")
HERE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_without_a_tracer_what_a_request_has_brought_is_passed_on() -> None:
    assert begun(None, READY) is READY
    with continued(HERE.decode()):
        assert begun(None, READY).traceparent == brought() == HERE
    with continued(HERE[:-1] + b"0"):  # not sampled
        assert begun(None, READY) is READY
    with continued("nonsense"):
        assert begun(None, READY) is READY
    assert brought() is None


def test_a_command_belongs_to_the_current_span_then_to_what_was_brought() -> None:
    spans = Spans()
    tracer = spans.of("web")
    with continued(HERE):
        ready = begun(tracer, READY)
        stored(ready.span, 3, 7)  # type: ignore[arg-type]
        with tracer.start("page", Kind.SERVER, {}) as page:
            within = begun(tracer, READY)
        failed(within.span, "no broker", "_TRANSPORT")  # type: ignore[arg-type]
        page.end()
    sent, refused, _ = sorted(spans.all, key=lambda span: (span.name == "page", span.end_time))
    assert sent.kind is SpanKind.PRODUCER
    assert sent.parent is not None
    assert f"{sent.parent.trace_id:032x}".encode() in HERE
    assert ready.traceparent == f"00-{sent.context.trace_id:032x}-{sent.context.span_id:016x}-01".encode()
    assert dict(sent.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "users.command",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 7,
        "messaging.kafka.message.key": "anna",
        "messaging.message.id": "c-1",
        "messaging.message.conversation_id": "r-1",
    }
    assert refused.parent is not None
    assert f"{refused.parent.span_id:016x}".encode() in (page.header or b"")
    assert refused.status.status_code is StatusCode.ERROR


def test_what_is_not_sampled_carries_no_header() -> None:
    assert begun(Spans(ALWAYS_OFF).of("web"), READY) is READY


@pytest.mark.parametrize("body", [Acceptance(1, 0, ()), Rejected("no")])
def test_a_reply_is_a_span_if_its_command_was_traced(body: Any) -> None:
    spans, reply = Spans(), ReplyMessage("c-1", "users", 0, 1, 0, 0, 0, body)
    for headers in ([(HEADER, HERE)], None, [(HEADER, HERE[:-1] + b"0")]):
        record: Any = SimpleNamespace(headers=lambda headers=headers: headers, offset=lambda: 5)
        received(spans.of("web"), TP("web.reply", 1), record, reply)
    (span,) = spans.all
    assert span.name == "receive web.reply"
    assert (span.attributes or {}).get("pipeline.rejected") == ("no" if isinstance(body, Rejected) else None)


class Producer:
    """Takes what is produced; the broker's confirmation comes at once."""

    def __init__(self) -> None:
        self.full, self.produced = False, list[Any]()

    def produce(self, *args: Any, **more: Any) -> None:
        if self.full:
            raise BufferError
        self.produced.append((args[:4], more))
        args[4](None, SimpleNamespace(partition=lambda: 2, offset=lambda: 9))


def test_a_record_carries_a_header_only_if_it_belongs_to_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = Producer()
    monkeypatch.setattr(Sending, "_open_producer", lambda _: (producer, SimpleNamespace(is_useless=lambda _: False)))
    monkeypatch.setattr(Sending, "_poll", lambda *_: None)
    sending, spans = Sending("127.0.0.1:1", "test", lambda value: value), Spans()
    sending.queue(READY, lambda *_: None)
    traced = begun(spans.of("web"), READY)
    sending.queue(traced, lambda *_: None)
    assert [more for _, more in producer.produced] == [{}, {"headers": [(HEADER, traced.traceparent)]}]
    assert [(span.attributes or {})["messaging.kafka.offset"] for span in spans.all] == [9]
    producer.full = True
    with pytest.raises(Overloaded):
        sending.queue(begun(spans.of("web"), READY), lambda *_: None, 0.0)
    assert (spans.all[-1].attributes or {})["error.type"] == "Overloaded"

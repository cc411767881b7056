"""One order is one trace through all services; what is not sampled leaves no trace, and aborts are told."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from pipeline.adapters.tracing.setup import _add_ids_to_log_records
from pipeline.engine.tracing.port import HEADER, Kind, sampled, sampled_of, traceparent
from pipeline.errors import TransactionAborted
from pipeline.testing import TestDriver
from pipeline.topology import Topology
from pipeline.worker.logs.lines import JsonLines
from tests.helpers.spans import Spans, service, tree
from tests.simulation.worlds import tills as t
from topologies import inventory, orders, users

LAMP = orders.Line("LAMP", 2, 1500)


class Shop:
    """The shop with one order through it, and the spans of that order."""

    def __init__(self, driver: TestDriver, spans: Spans, order: list[ReadableSpan]) -> None:
        self.driver, self.spans, self.order = driver, spans, order

    def named(self, name: str, of: str | None = None) -> list[ReadableSpan]:
        return [span for span in self.order if span.name == name and of in (None, service(span))]


@pytest.fixture(scope="module")
def shop(shop_topology: Topology) -> Iterator[Shop]:
    spans = Spans()
    with TestDriver(shop_topology, tracers=spans) as driver:
        driver.send("inventory", "LAMP", inventory.RegisterProduct("a lamp"), inventory.ReceiveStock(10))
        driver.send("users", "anna", users.RegisterUser("Anna", "France"))
        spans.clear()
        driver.send("orders", "1", orders.PlaceOrder("anna", "", "2009-12-01T10:00", (LAMP,), "saga"))
        yield Shop(driver, spans, spans.all)


def test_an_order_is_one_trace_through_all_services(shop: Shop) -> None:
    assert len({span.context.trace_id for span in shop.order}) == 1
    assert {service(span) for span in shop.order} == {
        *("client", "orders", "checkout_saga", "checkout_2pc", "inventory", "payments", "reports")
    }
    lines = list(tree(shop.order))
    assert [line for line in lines if not line.startswith(" ")] == ["client: send orders.command"]
    for each in (
        "  orders: process orders.command",
        "    orders: decide orders",
        "      checkout_saga: process orders.event",
        "        checkout_saga: react checkout_saga_begins",
        "          checkout_saga: process checkout_saga.command",
        "            checkout_saga: decide checkout_saga",
        "              inventory: process inventory.command",
        "                inventory: decide inventory",
        "                  checkout_saga: process checkout_saga.command",  # the reply to what the saga has asked
    ):
        assert each in lines, "\n".join(lines)
    reported = {line.strip() for line in lines if "reports: " in line}
    assert {
        *(
            "reports: route revenue",
            "reports: project revenue",
            "reports: project units_sold",
            "reports: commit reports",
        )
    } <= reported


def test_a_record_that_nothing_is_done_about_has_no_span(shop: Shop) -> None:
    followed = {span.parent.span_id for span in shop.order if span.parent is not None}
    assert {span.context.span_id for span in shop.order if span.kind is SpanKind.CONSUMER} <= followed
    assert len(shop.named("process orders.event", "checkout_saga")) == 1  # it follows orders that are placed, only


def test_each_span_is_within_the_time_of_what_has_caused_it(shop: Shop) -> None:
    spans = {span.context.span_id: span for span in shop.order}
    for span in shop.order:
        assert (span.end_time or 0) > (span.start_time or 0)
        if span.parent is not None:
            assert (span.start_time or 0) > (spans[span.parent.span_id].start_time or 0)


def test_a_span_says_what_messaging_conventions_ask_for(shop: Shop) -> None:
    span = shop.named("process orders.command", "orders")[0]
    said = dict(span.attributes or {})
    assert span.kind is SpanKind.CONSUMER
    assert said["messaging.system"] == "kafka"
    assert said["messaging.operation.name"] == said["messaging.operation.type"] == "process"
    assert said["messaging.destination.name"] == "orders.command"
    assert said["messaging.consumer.group.name"] == "orders"
    assert said["messaging.kafka.message.key"] == "1"
    assert said["messaging.message.id"] == said["messaging.message.conversation_id"] == "command-4"
    assert said["pipeline.message.type"] == "PlaceOrder"
    (decide,) = [each for each in shop.named("decide orders") if each.parent.span_id == span.context.span_id]
    assert (decide.attributes or {})["pipeline.events"] == 1


def test_a_commit_is_linked_to_all_that_it_joins(shop: Shop) -> None:
    spans = {span.context.span_id for span in shop.order}
    joined = []
    for commit in (span for span in shop.order if span.name.startswith("commit ")):
        held = [commit.parent.span_id, *(link.context.span_id for link in commit.links)]
        assert set(held) <= spans
        assert (commit.attributes or {})["messaging.batch.message_count"] == len(held)
        joined += held
    assert len(joined) == len(set(joined))
    assert {span.context.span_id for span in shop.order if span.kind is SpanKind.CONSUMER} <= set(joined)


def test_each_record_of_the_order_carries_one_header(shop: Shop) -> None:
    spans = {f"{span.context.span_id:016x}" for span in shop.order}
    for topic in ("orders.command", "orders.event", "checkout_saga.command", "inventory.command", "payments.event"):
        for log in shop.driver._world.kafka.topics[topic].logs:
            for record in log.archive:
                found = [value for name, value in record.headers() or () if name == HEADER]
                assert len(found) == 1
                if topic.startswith(("orders", "checkout")):
                    assert found[0].decode().split("-")[2] in spans


def test_the_correlation_id_is_the_same_in_all_spans(shop: Shop) -> None:
    said = [dict(span.attributes or {}).get("messaging.message.conversation_id") for span in shop.order]
    assert {each for each in said if each is not None} == {"command-4"}


def test_nothing_is_written_for_what_is_not_sampled(shop_topology: Topology) -> None:
    spans = Spans(ALWAYS_OFF)
    with TestDriver(shop_topology, tracers=spans) as driver:
        driver.send("users", "anna", users.RegisterUser("Anna", "France", "anna@example.org"))
        headers = [
            r.headers() for topic in driver._world.kafka.topics.values() for log in topic.logs for r in log.archive
        ]
        assert driver.row("users", "anna") is not None
    assert spans.all == []
    assert not any(name == HEADER for each in headers for name, _ in each or ())


def test_a_command_that_waits_for_a_unique_value_stays_in_its_trace(shop_topology: Topology) -> None:
    spans = Spans()
    with TestDriver(shop_topology, tracers=spans) as driver:
        driver.send("users", "anna", users.RegisterUser("Anna", "France", "anna@example.org"))
    assert len({span.context.trace_id for span in spans.all}) == 1
    waits = [span for span in spans.all if "pipeline.waits" in (span.attributes or {})]
    assert [span.name for span in waits] == ["decide users"]
    assert waits[0].status.status_code is not StatusCode.ERROR
    twice = [span for span in spans.all if span.name == "process users.command"]
    assert len(twice) == 3  # the command, the reply to its reservation, the command again
    assert any("reports: project customers" in line for line in tree(spans.all))


def test_a_rejection_is_an_attribute_and_what_raises_a_failure() -> None:
    spans = Spans()
    with TestDriver(t.TOPOLOGY, partitions=1, park=True, tracers=spans) as driver:
        driver.send("tills", "till-1", t.Close())
        rejected = [dict(span.attributes or {}).get("pipeline.rejected") for span in spans.all]
        assert [span.name for span in spans.all if span.status.status_code is StatusCode.ERROR] == []
        spans.clear()
        try:
            t.Code.mend(False)
            driver.send("tills", "till-1", t.Take(6))
        finally:
            t.Code.mend(True)
        failed = {span.name: span for span in spans.all if span.status.status_code is StatusCode.ERROR}
        spans.clear()
        driver.redrive()
    assert [reason for reason in rejected if reason] == ["empty"]
    assert failed.keys() == {"process tills.command", "decide tills"}
    assert (failed["decide tills"].attributes or {})["error.type"] == "Jammed"
    (trace,) = {span.context.trace_id for span in spans.all}  # what is redriven goes on with its trace
    assert trace == failed["decide tills"].context.trace_id


def test_a_transaction_that_is_aborted_says_so_and_the_next_one_does_not(shop_topology: Topology) -> None:
    spans = Spans()
    with TestDriver(shop_topology, tracers=spans) as driver:
        worker = next(each for each in driver._world.workers if each.plan.service.name == "users")
        assert worker.lane is not None
        producer = worker.lane._transaction._producer
        flush, times = producer.flush, iter([True])

        def refused(patience_s: float) -> Any:
            if next(times, False):
                raise TransactionAborted("planted")
            return flush(patience_s)

        producer.flush = refused  # type: ignore[method-assign]
        driver.send("users", "anna", users.RegisterUser("Anna", "France"))
    decided = [span for span in spans.all if span.name == "decide users"]
    assert [(span.attributes or {}).get("pipeline.aborted") for span in decided] == [True, None]
    commits = [span for span in spans.all if span.name == "commit users"]
    assert len(commits) == 1


def test_a_log_line_within_a_span_has_its_trace() -> None:
    made = logging.getLogRecordFactory()
    try:
        _add_ids_to_log_records()
        span = Spans().of("x").start("x", Kind.INTERNAL, {})
        with span:
            record = logging.getLogger("x").makeRecord("x", logging.INFO, "x.py", 1, "said", (), None)
        outside = logging.getLogger("x").makeRecord("x", logging.INFO, "x.py", 1, "said", (), None)
    finally:
        logging.setLogRecordFactory(made)
    assert span.header is not None
    line = json.loads(JsonLines().format(record))
    assert f"00-{line['trace_id']}-{line['span_id']}-01".encode() == span.header
    assert "trace_id" not in json.loads(JsonLines().format(outside))


GOOD = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("value", "is_one", "is_sampled"),
    [
        (GOOD, True, True),
        (GOOD.decode(), True, True),
        (GOOD[:-2] + b"00", True, False),
        (GOOD[:-2] + b"03", True, True),
        (b"cc" + GOOD[2:] + b"-later", True, True),  # of a version to come
        (b"ff" + GOOD[2:], False, False),
        (GOOD.upper(), False, False),
        (GOOD.replace(b"0af7651916cd43dd8448eb211c80319c", b"0" * 32), False, False),
        (GOOD[:-1], False, False),
        (GOOD + b"\n", False, False),
        (b"", False, False),
        (None, False, False),
        ("\ud800", False, False),
    ],
)
def test_what_is_no_traceparent_is_none(value: Any, is_one: bool, is_sampled: bool) -> None:
    assert (traceparent(value) is not None) is is_one
    assert (sampled(value) is not None) is is_sampled
    assert (sampled_of([("x", b"y"), (HEADER, value)]) is not None) is is_sampled

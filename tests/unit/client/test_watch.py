"""Tails of row topics, the subscriptions of a worker's watchers, and a client that follows one."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.adapters.memory import MemoryClock, MemoryKafka, MemoryLogReader
from pipeline.client.owner_request import RETRY_S, Answer, HttpCall, Items, Open, Read, Sleep
from pipeline.client.watch import WatchRequest
from pipeline.client.wire.watch_end import SLOW
from pipeline.engine.ports import TP
from pipeline.errors import TableUnavailable, UndecodableRecord
from pipeline.server.watch.row_tail import Event, TailWithCatchUp, Watch
from pipeline.server.watch.subscriptions import BUFFER_BYTES, Subscription
from tests.simulation.worlds import tills as t

ROWS = TP("stock.row", 0)


def watch(start: int, end: int, *, key: bytes = b"tea", absent: bool = False) -> Watch:
    return Watch(ROWS, key, start, end, lambda offset, value: f"{offset}={value!r}", absent=absent)


class Log:
    """A row topic of one partition, and feeds of it."""

    def __init__(self) -> None:
        self.kafka = MemoryKafka(MemoryClock())
        self.kafka.create_topic(ROWS.topic, 1, compacted=True)
        self.tail = TailWithCatchUp(MemoryLogReader(self.kafka), MemoryLogReader(self.kafka))

    def put(self, key: bytes, value: bytes | None) -> int:
        return self.kafka.append(ROWS, key, value)

    def steps(self, count: int = 4) -> list[Watch]:
        return [watch for _ in range(count) for watch in self.tail.step(0.0)[1]]


@pytest.fixture
def log() -> Log:
    return Log()


def offsets(of: Watch) -> list[int]:
    return [event.offset for event in of.drain()]


def test_who_is_behind_catches_up_and_holds_up_nobody(log: Log) -> None:
    for n in range(10):
        log.put(b"tea" if n % 2 else b"salt", b"%d" % n)
    live = watch(10, 10)
    log.tail.add(live)
    log.steps()
    far, further = watch(4, 10), watch(0, 10)
    log.tail.add(far)
    log.put(b"tea", b"10")
    log.tail.step(0.0)
    assert (offsets(live), offsets(far)) == ([10], [5, 7, 9, 10])
    log.tail.add(further)
    log.put(b"tea", b"11")
    log.steps()
    assert (offsets(live), offsets(far), offsets(further)) == ([11], [11], [1, 3, 5, 7, 9, 10, 11])
    for each in (live, far, further):
        log.tail.remove(each)
    assert log.tail.idle


def test_a_deletion_that_the_log_has_forgotten_is_told(log: Log) -> None:
    for n in range(4):
        log.put(b"tea", b"%d" % n)
    log.put(b"salt", b"x")
    forgotten, there, told = watch(2, 5, absent=True), watch(2, 5), watch(5, 5, absent=True)
    for each in (forgotten, there, told):
        log.tail.add(each)
    log.steps()
    assert [(e.offset, e.deleted) for e in forgotten.drain()] == [(2, False), (3, False), (4, True)]
    assert offsets(there) == [2, 3]
    assert offsets(told) == []
    deleted = watch(4, 7, absent=True)
    log.put(b"tea", None)
    log.put(b"salt", b"y")
    log.tail.add(deleted)
    log.steps()
    assert [(e.offset, e.deleted) for e in deleted.drain()] == [(5, True)], "told once, as the log tells it"


def test_who_asks_for_what_the_log_does_not_hold_is_told(log: Log) -> None:
    log.put(b"tea", b"0")
    lost = watch(7, 7)
    log.tail.add(lost)
    assert log.steps() == [lost]
    assert log.tail.idle


def test_a_slow_reader_gets_what_fits_and_is_ended() -> None:
    async def scenario() -> None:
        stream = Subscription(watch(0, 0))
        text = "x" * (BUFFER_BYTES // 2)
        assert await stream.news(0.01) == ""
        stream.take_in([Event(n, text, False) for n in range(3)], 3)
        assert (stream.ended, stream.passed) == (SLOW, 0), "what it was not told, it has not passed"
        stream.take_in([Event(3, text, False)], 4)
        assert await stream.news(1.0) == text * 2
        large = Subscription(watch(0, 0))
        large.take_in([Event(0, text * 4, False)], 1)
        assert (large.ended, await large.news(1.0)) == (None, text * 4)
        large.take_in([Event(1, text, False)], 2)
        assert (large.ended, large.passed) == (None, 2)

    asyncio.run(scenario())


def test_a_row_that_cannot_be_read_ends_its_own_watches_alone(log: Log) -> None:
    def unreadable(offset: int, value: bytes | None) -> str:
        raise UndecodableRecord("of a schema that this worker does not know")

    other, one = watch(0, 0), Watch(ROWS, b"salt", 0, 0, unreadable, absent=True)
    log.tail.add(other)
    log.tail.add(one)
    log.put(b"salt", b"?")
    log.put(b"tea", b"0")
    assert log.steps() == [one]
    assert offsets(other) == [1]


# --- a client ---------------------------------------------------------------------------------------------------------


def test_a_client_goes_on_where_it_was() -> None:
    asked: list[str] = []

    def holder(table: str, partition: int) -> str:
        raise TableUnavailable("it moves")

    router: Any = SimpleNamespace(
        topology=t.TOPOLOGY,
        partition=lambda table, key: 0,
        holder=holder,
        workers=lambda service: [f"http://{service}"],
        forget=asked.append,
    )
    steps = WatchRequest(router, "tills", "a/b", None, None, 5.0)
    assert steps.workers() == ["http://tills"]
    request = steps.request("http://tills")
    assert (request.holder, request.path, request.query) == (
        "http://tills",
        "/v1/tables/tills/a%2Fb/watch",
        {"wait": "5"},
    )
    row = {"total": 1, "says": "two\u2028lines"}
    body = json.dumps({"key": "a/b", "row": row, "position": "tills.state/0@4"}, ensure_ascii=False)
    stream = f"retry: 1000\n\nid: tills.state/0@4\r\ndata: {body}\n\n: alive\n\n".encode()
    for size in (1, 7, len(stream)):  # whatever comes at once
        steps.since = None
        events = [each for at in range(0, len(stream), size) for each in steps.events(stream[at : at + size])]
        assert [(each["position"], each["row"]) for each in events] == [("tills.state/0@4", row)]
        assert steps.since == "tills.state/0@4"
    assert list(steps.events(b"id: tills.state/0@9\n: alive\n\n")) == []
    assert steps.pause() > 0
    assert steps.request("http://tills").query["since"] == "tills.state/0@9"
    for reason, since in (("slow", "tills.state/0@9"), ("lost", None)):
        assert list(steps.events(f'event: end\ndata: {{"reason": "{reason}"}}\n\n'.encode())) == []
        assert steps.since == since
    steps.refused(Answer(503, {"error": "TableUnavailable", "detail": "it moves"}, {}))
    with pytest.raises(Exception, match="no table"):
        steps.refused(Answer(404, {"error": "UnknownTable", "detail": "no table"}, {}))
    steps._patience_s = -1.0
    with pytest.raises(TableUnavailable, match="no worker"):
        steps.pause()
    assert asked == ["tills", "tills"]


def test_half_an_event_of_a_connection_that_broke_is_no_part_of_the_next() -> None:
    router: Any = SimpleNamespace(
        topology=t.TOPOLOGY,
        partition=lambda table, key: 0,
        holder=lambda table, partition: "http://one",
        workers=lambda service: ["http://one", "http://two"],
        forget=lambda table: None,
    )
    steps = WatchRequest(router, "tills", "a", None, None, 5.0).steps()
    assert steps.send(next(steps).function()) == Open(
        HttpCall("http://one", "/v1/tables/tills/a/watch", {"wait": "5"}, 20.0)
    )
    assert steps.send(Answer(200, None, {})) == Read()
    assert steps.send(b'id: tills.state/0@4\ndata: {"half"') == Items([])
    assert next(steps) == Read()
    again = steps.send(b"")
    assert (again.call.holder, again.call.query) == ("http://two", {"wait": "5"})
    steps.send(Answer(200, None, {}))
    whole = {"key": "a", "row": None, "position": "tills.state/0@5"}
    assert steps.send(b"id: tills.state/0@5\ndata: " + json.dumps(whole).encode() + b"\n\n") == Items([whole])
    assert next(steps) == Read()
    assert steps.send(b"") == Sleep(RETRY_S)

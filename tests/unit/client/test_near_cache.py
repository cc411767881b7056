"""The near cache: what it may answer, what ends a copy, and how it stays within its bounds."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pipeline.adapters.memory import MemoryClock, MemoryKafka, MemoryLogReader
from pipeline.adapters.memory.log import Transaction
from pipeline.client.near_cache.cache import AGE_S_MAX, ENTRY_BYTES, NearCache
from pipeline.client.near_cache.cached_partition import MARKS, CachedPartition
from pipeline.client.near_cache.thread import _Collector
from pipeline.client.owner_request import Answer
from pipeline.client.wire.read_options import Level, ReadOptions
from pipeline.engine.ports import TP
from pipeline.errors import UnknownKey
from pipeline.flow import Lineage
from pipeline.model import Token
from tests.simulation.worlds.tills import TOPOLOGY

LINEAGE = Lineage(TOPOLOGY.services.values())
STATE = TP("books.state", 0)
OWNER, EVENTUAL = ReadOptions(), ReadOptions(Level.EVENTUAL)


def at_least(token: str) -> ReadOptions:
    return ReadOptions(at_least=Token(token))


class Desk:
    """A cache, the row topic that it follows, and answers as workers give them."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.kafka = MemoryKafka(MemoryClock())
        for table in LINEAGE.rows:
            self.kafka.create_topic(LINEAGE.rows[table], 1, compacted=True)
        self.reader = MemoryLogReader(self.kafka)
        self.wakes = 0
        self.cache = NearCache(limit, LINEAGE, {}, lambda: self.kafka.clock.now_s, self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def write(self, key: str = "a") -> None:
        self.kafka.append(STATE, key.encode(), b"x")

    def follow(self) -> None:
        for _ in range(3):
            self.cache.step(self.reader, 0.0)

    def answer(self, rows: int, folded: int = 0, version: int | None = 1, **more: Any) -> Answer:
        body = (
            {"row": {"total": 1}, "version": version, **more} if version else {"error": "UnknownKey", "detail": "none"}
        )
        headers = {"x-pipeline-row-position": f"books.state/0@{rows - 1}"}
        headers |= {"x-pipeline-position": f"books.command/0@{folded - 1}"} if folded else {}
        return Answer(200 if version else 404, body, headers)

    def ask(self, answer: Answer, asked: ReadOptions = OWNER, key: str = "a") -> None:
        pending_read = self.cache.ask("books", 0, key)
        self.cache.keep(pending_read, "books", 0, key, asked, answer)
        self.cache.forget(pending_read, key)

    def find(self, asked: ReadOptions, key: str = "a", table: str = "books") -> dict[str, Any] | None:
        return self.cache.find(table, 0, key, asked)


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    for _ in range(10):
        made.write("other")
    return made


def test_a_token_is_known_once_an_answer_has_contained_it(desk: Desk) -> None:
    token = at_least("tills.command/0@5")
    desk.ask(desk.answer(10, folded=30, version=3), token)
    desk.follow()
    assert desk.find(token) == {"row": {"total": 1}, "version": 3, "position": "books.command/0@29"}
    assert desk.find(at_least("tills.command/0@4,books.command/0@29"))
    assert desk.find(at_least("books.state/0@9")), "what a watch has told"
    for unknown in ("tills.command/0@6", "books.command/0@30", "tills.event/0@1", "books.state/0@10"):
        assert desk.find(at_least(unknown)) is None
    # Another key's answer says where that token is contained; this copy is as good once all up to there is followed.
    desk.write("b")
    desk.ask(desk.answer(11, folded=31), at_least("tills.command/0@6"), key="b")
    assert desk.find(at_least("tills.command/0@6")) is None
    desk.follow()
    assert desk.find(at_least("tills.command/0@6"))
    assert desk.cache.figures()[:4] == (4, 0, 5, 0)


def test_the_marker_behind_the_last_record_makes_no_answer_too_old(desk: Desk) -> None:
    desk.ask(desk.answer(10, folded=30))
    log, transaction = desk.kafka.log(STATE), Transaction("books-0", 0.0)
    log.append(b"b", b"x", 0, transaction=transaction)  # at 10; the marker is at 11
    transaction.outcome = "commit"
    log.mark(transaction)
    desk.follow()
    desk.ask(desk.answer(11, folded=31), key="c")
    assert desk.find(EVENTUAL, key="c")
    desk.ask(desk.answer(10, folded=30), key="d")  # from before the last record, which may have been its own
    assert desk.find(EVENTUAL, key="d") is None


def test_only_what_may_be_older_is_answered(desk: Desk) -> None:
    desk.ask(desk.answer(10, folded=30))
    desk.follow()
    for level in (Level.OWNER, Level.LINEARIZABLE, Level.FRESH):
        assert desk.find(ReadOptions(level)) is None
    assert desk.find(ReadOptions(Level.LINEARIZABLE, Token("books.command/0@1"))) is None
    found = desk.find(EVENTUAL)
    assert found is not None
    assert found["age_s"] == 0
    assert desk.find(EVENTUAL, table="seen") is None, "a replica has no row topic"
    desk.kafka.slow_down([STATE], 1000.0)
    desk.write("b")
    desk.kafka.clock.advance(5.0)
    desk.follow()
    assert desk.find(ReadOptions(Level.EVENTUAL, max_age_s=4.0)) is None
    older = desk.find(EVENTUAL)
    assert older is not None
    assert older["age_s"] == 5
    desk.kafka.clock.advance(AGE_S_MAX)
    assert desk.find(EVENTUAL) is None
    desk.follow()
    assert desk.cache.figures().rows == 0, "it may have missed a deletion that was cleaned away"


def test_a_new_row_ends_the_copy_and_so_does_a_deletion(desk: Desk) -> None:
    desk.ask(desk.answer(10, folded=30, version=None))
    desk.follow()
    with pytest.raises(UnknownKey, match="none"):
        desk.find(at_least("books.command/0@29"))
    desk.write("a")
    desk.follow()
    assert desk.find(EVENTUAL) is None
    desk.ask(desk.answer(11, folded=31))
    assert desk.find(at_least("books.command/0@30"))
    desk.kafka.append(STATE, b"a", None)
    desk.follow()
    assert desk.find(EVENTUAL) is None
    assert desk.cache.figures().invalidated == 2


def test_an_answer_that_has_been_overtaken_is_not_kept(desk: Desk) -> None:
    desk.ask(desk.answer(10), key="b")
    desk.follow()
    pending_read = desk.cache.ask("books", 0, "a")
    desk.write("a")
    desk.follow()
    desk.cache.keep(pending_read, "books", 0, "a", ReadOptions(), desk.answer(10))
    desk.cache.forget(pending_read, "a")
    assert desk.find(EVENTUAL) is None, "its row is the one before"
    desk.ask(desk.answer(10))
    assert desk.find(EVENTUAL) is None, "a zombie's answer, or a standby's"
    pending_read = desk.cache.ask("books", 0, "a")
    desk.write("a")
    desk.follow()
    desk.cache.keep(pending_read, "books", 0, "a", ReadOptions(), desk.answer(12))
    desk.cache.forget(pending_read, "a")
    assert desk.find(EVENTUAL), "it has the new row already"
    without = Answer(200, {"row": {}}, {})
    desk.ask(without, key="c")
    assert desk.find(EVENTUAL, "c") is None


def test_a_partition_that_is_dropped_and_comes_back_is_read_from_where_it_begins(desk: Desk) -> None:
    desk.ask(desk.answer(10))
    desk.follow()
    desk.write("a")
    desk.write("b")
    pending_read = desk.cache.ask("books", 0, "b")
    desk.cache.clear()
    desk.cache.keep(pending_read, "books", 0, "b", ReadOptions(), desk.answer(12))
    assert desk.find(EVENTUAL, "b") is None, "what has come by meanwhile is not known"
    desk.reader = MemoryLogReader(desk.kafka)
    desk.ask(desk.answer(10), key="a")  # from before what the old reader had got to
    desk.follow()
    assert desk.find(EVENTUAL) is None
    assert desk.wakes == 2
    desk.cache._clear(STATE)
    desk.ask(desk.answer(11), key="b")
    desk.follow()
    assert desk.find(EVENTUAL, "b") is None, "the same reader has to go back"


def test_it_takes_no_more_than_it_may() -> None:
    desk = Desk(limit=4 * (ENTRY_BYTES + 100))
    desk.write("other")
    for n in range(10):
        desk.ask(desk.answer(1), key=f"k{n}")
        assert desk.find(EVENTUAL, "k0"), "what is used stays"
    figures = desk.cache.figures()
    assert figures.bytes <= 4 * (ENTRY_BYTES + 100)
    assert 4 <= figures.rows == 10 - figures.evicted < 6
    assert figures.hit_rate == 1.0
    registry = CollectorRegistry()
    registry.register(_Collector(desk.cache))
    assert registry.get_sample_value("pipeline_near_cache_reads_total", {"result": "hits"}) == 10
    assert registry.get_sample_value("pipeline_near_cache_bytes") == figures.bytes
    desk.ask(desk.answer(1, text="x" * 10_000), key="huge")
    assert desk.cache.figures()[4:7] == figures[4:7], "it makes no room for what has none"
    for n in range(10):
        desk.write(f"k{n}")
    desk.kafka.clock.advance(2.0)
    desk.follow()
    assert desk.cache.idle, "nothing is kept, so nothing is followed"


def test_marks_keep_the_least_that_is_needed() -> None:
    cached_partition, place = CachedPartition("books", 0, 0, 0.0), ("tills.command", 0)
    for offset, rows in ((5, 50), (9, 90), (7, 60), (6, 70), (9, 80), (4, 60), (9, 95)):
        cached_partition.add_token(place, offset, rows)
    assert cached_partition.marks[place] == [(5, 50), (7, 60), (9, 80)]
    assert [cached_partition.end_for(place, offset) for offset in (1, 5, 6, 8, 9, 10)] == [50, 50, 60, 80, 80, None]
    assert [cached_partition.covered(place, rows) for rows in (49, 50, 79, 80)] == [None, 5, 7, 9]
    for n in range(100):
        cached_partition.add_token(place, 100 + n, 100 + n)
    assert len(cached_partition.marks[place]) == MARKS

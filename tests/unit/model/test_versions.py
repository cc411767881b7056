"""Versions of projections: what they are called, what is a service of its own, what is refused, and what differs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipeline import Projection, Service, Source
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.kafka.reader_versions import Versions
from pipeline.client.owner_request import Answer, HttpCall
from pipeline.client.requests import Requests
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.errors import TableUnavailable, TopicError, TopologyError, UnknownTable
from pipeline.model import TopicKind
from pipeline.rebuild.building import Progress
from pipeline.rebuild.comparing import _look
from pipeline.rebuild.subject import subject
from pipeline.rebuild.switching import ANSWER_S, droppable, known
from pipeline.server.endpoint import Endpoint, Page, Reply, Request
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import FORWARDED
from pipeline.server.web import mount
from pipeline.topology import Topology
from pipeline.verify.sources.history import Entry
from tests.simulation.worlds import tills as t

SUMS = t.BOOKS.projections[0]
BOTH = Topology("x", {"books": replace(t.BOOKS, projections=[SUMS, replace(SUMS, version=2)])}, t.SCHEMAS)
NEW = Topology("x", {"books": replace(t.BOOKS, projections=[replace(SUMS, version=2)])}, t.SCHEMAS)


def test_a_later_version_is_a_service_of_its_own() -> None:
    assert [p.name for p in BOTH.services["books"].projections] == ["sums"]
    own = BOTH.services["books_sums_v2"]
    assert [p.name for p in own.projections] == ["sums_v2"]
    assert own.transient == t.BOOKS.transient
    assert own.tables() == {"sums_v2": "sums_v2.by_key"}
    assert BOTH.versions == {"sums": {1: "sums", 2: "sums_v2"}}
    topics = dict(ServicePlan(own, codecs(t.SCHEMAS)).own_topics())
    assert topics["sums.versions"] is TopicKind.VERSIONS
    assert {"sums_v2.row", "sums_v2.by_key", "books_sums_v2.parked"} <= topics.keys()
    assert [service.name for service in BOTH.chosen(("books",))] == ["books", "books_sums_v2"]
    assert replace(BOTH, name="again").services == BOTH.services


def test_a_service_of_which_nothing_else_is_left_is_its_versions() -> None:
    service = Service("s", projections=[projection(version=2)])
    topology = Topology("x", {"s": service}, Path())
    assert list(topology.services) == ["s_p_v2"]
    assert [chosen.name for chosen in topology.chosen(("s",))] == ["s_p_v2"]
    with pytest.raises(TopologyError, match="no service 'p'"):
        topology.chosen(("p",))


def test_readers_may_name_a_version_or_none() -> None:
    assert [BOTH.table(name) for name in ("sums", "sums_v1", "sums_v2", "seen")] == ["sums", "sums", "sums_v2", "seen"]
    assert [BOTH.versioned_name(table) for table in ("sums", "sums_v2", "seen")] == ["sums_v1", "sums_v2", "seen"]
    assert NEW.table("sums") == "sums_v2"
    fixed = [name for name in ("sums", "sums_v1", "sums_v2", "seen") if BOTH.is_fixed(name)]
    assert fixed == ["sums_v2", "seen"], "of these alone a near cache may know the row topic"
    assert NEW.service_of("sums").name == "books_sums_v2"
    with pytest.raises(UnknownTable):
        NEW.service_of("sums_v1")


@dataclass(frozen=True, slots=True)
class Thing:
    pass


def projection(**changes: Any) -> Projection[Any, Any]:
    values: dict[str, Any] = {"name": "p", "sources": [Source("a.event", Thing)], "initial": Thing(), "evolve": max}
    return Projection(**{**values, **changes})


@pytest.mark.parametrize(
    ("services", "says"),
    [
        (lambda: [Service("s", projections=[projection(version=0)])], "versions are counted from 1"),
        (lambda: [Service("s", projections=[projection(version=2), projection(version=2)])], "2 tables are named"),
        (
            lambda: [Service("s", projections=[projection(version=2)]), Service("s_p_v2", projections=[])],
            "named 's_p_v2', like a version",
        ),
        (
            lambda: [Service("s", projections=[projection(), projection(version=2), projection(name="p_v1")])],
            "named like the first version of 'p'",
        ),
    ],
)
def test_what_cannot_be_is_refused(services: Callable[[], list[Service]], says: str) -> None:
    with pytest.raises(TopologyError, match=says):
        Topology("x", {service.name: service for service in services()}, Path())


def test_two_versions_may_follow_the_same_topic_with_other_classes() -> None:
    other = projection(version=2, sources=[Source("a.event", t.Taken)])
    assert Service("s", projections=[projection(), other]).tables() == {"p": "a.event", "p_v2": "a.event"}


def test_only_what_is_declared_can_be_built() -> None:
    assert subject(BOTH, "sums").version == 2
    assert subject(BOTH, "sums", 1).hops() == [["tills.event"], ["sums.by_key"]]
    with pytest.raises(TopologyError, match=r"only version 1 of .sums. is declared.*sums_v2\.row\.avsc"):
        subject(t.TOPOLOGY, "sums")
    with pytest.raises(TopologyError, match="version 3 of 'sums' is not declared"):
        subject(BOTH, "sums", 3)
    with pytest.raises(UnknownTable, match="no projection 'nothing'"):
        subject(BOTH, "nothing")


# --- which version readers get ----------------------------------------------------------------------------------------


def versions(topology: Topology, said: dict[str, int], topics: tuple[str, ...] = ()) -> Versions:
    """As if the broker had these topics, and that had been said."""
    made = object.__new__(Versions)
    made._topology, made._said, made._counts = topology, said, dict.fromkeys(topics, 1)
    made._names = {f"{name}.versions": name for name in topology.versions}
    return made


def test_what_was_said_last_holds_and_else_the_first_version() -> None:
    assert versions(BOTH, {}).table("sums") == "sums"
    assert versions(BOTH, {"sums": 2}).table("sums") == "sums_v2"
    assert versions(BOTH, {"sums": 2}).table("sums_v1") == "sums"
    assert versions(NEW, {}).table("sums") == "sums_v2", "there was never another one"
    assert versions(NEW, {"sums": 2}).table("seen") == "seen"


@pytest.mark.parametrize(
    ("topology", "said", "topics", "current"),
    [(t.TOPOLOGY, {"sums": 2}, (), 2), (NEW, {}, ("sums.row",), 1), (NEW, {"sums": 3}, (), 3)],
)
def test_code_that_lacks_what_readers_get_is_refused(
    topology: Topology, said: dict[str, int], topics: tuple[str, ...], current: int
) -> None:
    with pytest.raises(TopologyError, match=f"readers of 'sums' get version {current}, and this code declares"):
        versions(topology, said, topics).check()


def test_where_a_switch_could_not_be_heard_of_nobody_starts() -> None:
    deaf = versions(BOTH, {})
    deaf._names = {}
    with pytest.raises(TopicError, match=r"does not have sums\.versions; create it with"):
        deaf.check()


def test_code_that_declares_it_is_taken() -> None:
    versions(BOTH, {}, ("sums.row",)).check()
    versions(BOTH, {"sums": 2}).check()
    versions(NEW, {"sums": 2}, ("sums.row",)).check()
    versions(t.TOPOLOGY, {"sums": 1}).check()


# --- when a version is level ------------------------------------------------------------------------------------------


class Looking(Progress):
    """A progress over offsets that a test sets."""

    def __init__(self) -> None:
        self.committed, self.ends = dict[TP, int](), dict[TP, int]()
        self._hops = [[TP("e", 0), TP("e", 1)], [TP("k", 0)]]
        self._hop, self._goal, self._began_s = 0, {}, 0.0
        self.begun, self.done, self.total, self.level = None, 0, 0, False

    def _asked(self, every: list[TP]) -> tuple[dict[TP, int], dict[TP, int]]:
        return self.committed, {tp: self.ends.get(tp, 0) for tp in every}


def test_level_is_who_has_followed_each_hop_to_its_end() -> None:
    progress = Looking()
    progress.ends = {TP("e", 0): 5, TP("e", 1): 2}
    progress.look()
    assert (progress.level, progress.done, progress.total, progress.begun) == (False, 0, 7, 0)
    progress.committed = {TP("e", 0): 5, TP("e", 1): 1}
    progress.look()
    assert not progress.level
    # Once all events are routed, what they came to has to be folded, too.
    progress.committed[TP("e", 1)] = 2
    progress.ends[TP("k", 0)] = 9
    progress.look()
    assert not progress.level
    progress.ends |= {TP("e", 0): 8, TP("k", 0): 12}  # what comes meanwhile is not waited for
    progress.committed[TP("k", 0)] = 9
    progress.look()
    assert progress.level


def test_who_has_taken_long_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pipeline.rebuild.building.time", SimpleNamespace(monotonic=lambda: now[0]))
    progress = Looking()
    progress.ends = {TP("e", 0): 5}
    progress.look()
    now[0] += 60
    progress.ends[TP("e", 0)] = 50
    progress.committed = {TP("e", 0): 5}
    progress.look()
    assert not progress.level, "of a minute ago it knows only"
    progress.committed[TP("e", 0)] = 50
    progress.look()
    assert progress.level


# --- what differs -----------------------------------------------------------------------------------------------------


class Rows:
    """Row topics of two partitions."""

    def __init__(self, **topics: list[tuple[int, str, Any]]) -> None:
        make = codecs(t.SCHEMAS)
        self._logs: dict[TP, list[Entry]] = {}
        for table, records in topics.items():
            codec = make(f"{table}.row", t.OpenTill)
            for partition, key, row in records:
                log = self._logs.setdefault(TP(f"{table}.row", partition), [])
                log.append(Entry(len(log), key.encode(), row and codec.encode(row), 0, ()))

    def records(self, tp: TP) -> Iterator[Entry]:
        yield from self._logs.get(tp, ())


@pytest.mark.parametrize("counts", [[2, 2], [2, 1]])
def test_rows_are_compared_by_their_last_values(counts: list[int]) -> None:
    row = t.OpenTill
    new = [(0, "a", row(1, 1)), (1, "c", row(4, 1)), (0, "d", row(9, 9)), (0, "d", None), (1, "f", row(1, 2))]
    history = Rows(
        open_tills=[(0, "a", row(5, 1)), (0, "a", row(1, 1)), (1, "c", row(3, 1)), (0, "d", row(3, 3)), (1, "e", None)],
        open_tills_v2=[(n if n < counts[1] else 0, key, value) for n, key, value in new],
    )
    topics = "open_tills.row", "open_tills_v2.row"
    found, differ = _look(cast(Any, history), Registry(t.SCHEMAS), topics, counts, None)
    assert (found.same, found.changed, found.missing, found.added, found.total) == (1, 1, 1, 1, 3)
    assert differ["c"] == ({"total": 3, "taken": 1}, {"total": 4, "taken": 1})
    assert differ.keys() == {"c", "d", "f"}
    again, _ = _look(cast(Any, history), Registry(t.SCHEMAS), topics, counts, {"c"})
    assert (again.same, again.total) == (3, 1), "what had been the same has only changed meanwhile"


def test_pages_are_asked_for_the_table_of_now_unless_another_worker_has_named_it() -> None:
    asked = Endpoint("GET", "/v1/tables/{table}/{key:.+}")

    async def page(request: Request) -> Reply:
        return Reply(200, f"{request.parts['table']} {request.parts['key']}")

    async def ask() -> list[str]:
        said = {"sums": 2}
        app = web.Application()
        dispatcher = Dispatcher(cast(Any, None), cast(Any, SimpleNamespace(router=SimpleNamespace(topology=BOTH))))
        mount(app, dispatcher, {asked: Page(page)}, versions(BOTH, said).table)
        async with TestClient(TestServer(app)) as client:
            told = [
                await (await client.get(f"/v1/tables/{name}/a%2Fb", headers=headers)).json()
                for name, headers in [("sums", {}), ("sums", {FORWARDED: "1"}), ("sums_v1", {}), ("seen", {})]
            ]
            said["sums"] = 1
            return [*told, await (await client.get("/v1/tables/sums/c")).json()]

    assert asyncio.run(ask()) == ["sums_v2 a/b", "sums a/b", "sums a/b", "seen a/b", "sums c"]


# --- what may go ------------------------------------------------------------------------------------------------------

THERE = [
    *("sums.row", "sums.by_key", "books.sums.by_key.queue", "books.tills.event.queue", "tills.event"),
    *("sums_v2.row", "sums_v2.by_key", "books_sums_v2.parked", "books_sums_v2.sums_v2.by_key.queue", "sums.versions"),
]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What each worker says of versions, on a broker that has these topics."""
    said: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr("pipeline.rebuild.switching.partition_counts", lambda _: dict.fromkeys(THERE, 2))
    monkeypatch.setattr("pipeline.rebuild.switching.asked", lambda *_: said)
    return said


def test_the_topics_of_versions_that_nobody_declares_may_go(workers: dict[str, dict[str, Any]]) -> None:
    workers["one"] = {"sums": {"version": 2, "tables": {"2": "sums_v2"}}}
    client = cast(Any, None)
    assert droppable(client, NEW, "sums", 2) == ["books.sums.by_key.queue", "sums.by_key", "sums.row"]
    assert droppable(client, BOTH, "sums", 1) == []
    third = {"books": replace(t.BOOKS, projections=[replace(SUMS, version=3)])}
    workers["one"]["sums"] = {"version": 3, "tables": {"3": "sums_v3"}}
    own = {topic for topic in THERE if "sums_v2" in topic}
    assert own <= set(droppable(client, Topology("x", third, t.SCHEMAS), "sums", 3))
    assert not {"sums.versions", "tills.event", "books.tills.event.queue"} & set(droppable(client, NEW, "sums", 2))


@pytest.mark.parametrize("says", [{}, {"sums": {"version": 2, "tables": {"1": "sums", "2": "sums_v2"}}}])
def test_but_not_while_somebody_folds_it(workers: dict[str, dict[str, Any]], says: dict[str, Any]) -> None:
    workers["one"] = says  # of code that knows of one version only, it is nothing
    with pytest.raises(TopologyError, match="the worker at one still declares version 1"):
        droppable(cast(Any, None), NEW, "sums", 2)
    with pytest.raises(TopologyError, match="the topology x still declares version 1"):
        droppable(cast(Any, None), BOTH, "sums", 2)


def test_each_worker_is_asked_once_and_all_have_to_answer() -> None:
    router: Any = SimpleNamespace(topology=BOTH, workers=lambda service: ["http://b", "http://a"])
    steps = known(router)
    assert steps.send(next(steps).function()) == HttpCall("http://a", "/v1/projections", {}, ANSWER_S)
    assert steps.send(Answer(404, None, {})).holder == "http://b"
    with pytest.raises(StopIteration) as ended:
        steps.send(Answer(200, {"sums": {"version": 2}}, {}))
    assert ended.value.value == {"http://a": {}, "http://b": {"sums": {"version": 2}}}
    steps = known(router)
    steps.send(next(steps).function())
    with pytest.raises(TableUnavailable, match="http://a does not respond; stop it"):
        steps.send(None)


@pytest.mark.parametrize(("name", "cached"), [("sums", False), ("sums_v1", False), ("sums_v2", True)])
def test_a_near_cache_is_not_asked_for_what_may_be_switched(name: str, cached: bool) -> None:
    kept = SimpleNamespace(find=lambda *_: {"row": "kept"}, ask=lambda *_: None)
    router = SimpleNamespace(topology=BOTH, knows=lambda _: True, partition=lambda *_: 0)
    steps = Requests(cast(Any, router), 1.0, eventual=False, near=cast(Any, kept)).get(name, "a")
    with pytest.raises(StopIteration) if cached else nullcontext() as ended:
        next(steps)  # a worker is to be asked, or all is said
    if cached:
        assert ended is not None
        assert ended.value.value == {"row": "kept"}

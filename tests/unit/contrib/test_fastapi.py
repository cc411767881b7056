"""A FastAPI application with the clients, without Kafka: what its pages reply, and what travels with a browser."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.testclient import TestClient

from pipeline import errors
from pipeline.client import Accepted, AsyncClient
from pipeline.client.drive import AsyncDriver
from pipeline.client.owner_request import Items, Steps, Stream
from pipeline.client.queries import AsyncQueryClient
from pipeline.client.wire.trace import brought
from pipeline.contrib.fastapi import Clients, Commands, Queries, accepted, clients, event_stream, get_commands
from pipeline.contrib.own_writes.logs import Logs
from pipeline.contrib.own_writes.positions import COOKIE, HEADER
from pipeline.errors import BrokerUnreachable, NoReply, NotYet, PipelineError, TableUnavailable, TopologyError
from pipeline.model import Rejected, Token
from pipeline.topology import load
from tests.helpers.decided import Decided
from topologies.users import RegisterUser

SHOP = load("topologies")
ANNA = RegisterUser("Anna", "France")


class Kafka:
    """What the clients are made of here. `outcome`: of each command; `asked`: what the clients were given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outcome: Any = Accepted(1, (), Token("users.command/3@77"))
        self.asked: list[tuple[Any, ...]] = []
        self.traces: list[bytes | None] = []
        self.away: PipelineError | None = None
        self.closed = 0
        for client in (AsyncClient, AsyncQueryClient):
            monkeypatch.setattr(client, "__init__", lambda made, *_, **__: self._open(made))
            monkeypatch.setattr(client, "close", self._close)
        monkeypatch.setattr(Logs, "_absent", lambda *_: set())
        monkeypatch.setattr(clients, "START_S", 0.2)
        monkeypatch.setattr(clients, "RETRY_S", 0.01)

    def _open(self, client: Any) -> None:
        if self.away is not None:
            raise self.away
        client._steps, client._driver = self, AsyncDriver()

    async def _close(self) -> None:
        self.closed += 1

    def ask(self, *args: Any, **options: Any) -> Steps[Decided]:
        self.traces.append(brought())
        self.asked.append((*args, options))
        yield from ()
        return Decided(self.outcome)

    def store(self, *args: Any, **options: Any) -> Steps[tuple[str, Token]]:
        self.asked.append((*args, options))
        yield from ()
        return "id", Token("users.command/0@5")

    def get(self, *args: Any, **options: Any) -> Steps[dict[str, Any]]:
        self.asked.append((*args, options))
        yield from ()
        return {"row": {}}

    def watch(self, *args: Any, **options: Any) -> Stream[dict[str, Any]]:
        self.asked.append((*args, options))
        for n in range(2):
            yield Items([{"key": "anna", "row": {"n": n}, "position": Token(f"users.state/3@{n}")}])

    scan = watch

    def options(self) -> list[dict[str, Any]]:
        """The options of the calls since the last time."""
        asked, self.asked = self.asked, []
        return [each[-1] for each in asked]


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    return Kafka(monkeypatch)


def application(**options: Any) -> FastAPI:
    pipeline = Clients(SHOP, "localhost:1", **options)
    app = FastAPI(lifespan=pipeline.lifespan)
    pipeline.install(app)

    @app.post("/users")
    async def register(commands: Commands) -> RedirectResponse:
        accepted(await commands.send("users", "anna", ANNA, wait=5))
        return RedirectResponse("/users", 303)

    @app.post("/twice")
    async def twice(commands: Commands) -> str:
        await commands.send("users", "anna", ANNA)
        return str(await commands.send("users", "berta", ANNA))

    @app.get("/users")
    async def read(queries: Queries) -> Any:
        return await queries.get("users", "anna")

    @app.get("/all")
    async def scan(queries: Queries) -> Any:
        return [row["row"] async for row in queries.scan("customers")]

    @app.get("/live")
    async def live(queries: Queries) -> StreamingResponse:
        return await event_stream(queries.watch("users", "anna"))

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise getattr(errors, name)("why")

    return app


@pytest.fixture
def browser(kafka: Kafka) -> Iterator[TestClient]:
    with TestClient(application()) as made:
        yield made


def test_a_request_passes_its_trace_on_to_what_it_sends(kafka: Kafka, browser: TestClient) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    browser.post("/users", follow_redirects=False, headers={"traceparent": trace})
    browser.post("/users", follow_redirects=False)
    assert kafka.traces == [trace.encode(), None]


def test_a_page_reads_its_own_writes_after_a_redirect(kafka: Kafka, browser: TestClient) -> None:
    posted = browser.post("/users", follow_redirects=False)
    assert posted.status_code == 303
    assert posted.headers[HEADER] == "users.command/3@77"
    assert posted.headers["set-cookie"] == (
        f"{COOKIE}=users.command%2F3%4077; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"
    )
    kafka.options()
    read = browser.get("/users")
    assert kafka.options() == [{"at_least": "users.command/3@77"}]
    assert read.headers[HEADER] == "users.command/3@77"
    assert "set-cookie" not in read.headers
    browser.get("/all")
    browser.get("/live")
    scanned, watched = kafka.asked
    assert scanned == ("customers", {"at_least": "users.command/3@77"})
    assert watched == ("users", "anna", "users.command/3@77", {})


def test_positions_travel_in_the_header_where_there_is_no_cookie(kafka: Kafka) -> None:
    with TestClient(application(cookie="")) as client:
        token = client.post("/users", follow_redirects=False).headers[HEADER]
        assert not client.cookies
        client.get("/users")
        client.get("/users", headers={HEADER: token})
    assert kafka.options()[1:] == [{}, {"at_least": token}]


def test_a_command_without_wait_is_stored_before_the_page_replies(kafka: Kafka, browser: TestClient) -> None:
    posted = browser.post("/twice")
    assert posted.json() == "id"
    assert posted.headers[HEADER] == "users.command/0@5"


def test_a_request_with_an_idempotency_key_has_the_ids_of_its_repetition(kafka: Kafka, browser: TestClient) -> None:
    headers = {"Idempotency-Key": "17", "X-Issued-At": "1700000000000"}
    browser.post("/twice", headers=headers)
    ids = [each["command_id"] for each in kafka.options()]
    assert ids == ["17", "17/2"]
    browser.post("/twice", headers=headers)
    assert [each["command_id"] for each in kafka.options()] == ids
    assert browser.post("/twice", headers={"Idempotency-Key": '""'}).status_code == 400
    parameters = browser.get("/openapi.json").json()["paths"]["/twice"]["post"]["parameters"]
    assert {each["name"] for each in parameters} == {"Idempotency-Key", "X-Issued-At"}


def test_a_rejection_is_the_problem_document_of_a_worker(kafka: Kafka, browser: TestClient) -> None:
    kafka.outcome = Rejected("already_registered", {"since": "2009"})
    refused = browser.post("/users")
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json() == {
        "type": "urn:kafka-pipeline:Rejected",
        "title": "Conflict",
        "status": 409,
        "detail": "the aggregate rejects the command: already_registered",
        "error": "Rejected",
        "outcome": "rejected",
        "reason": "already_registered",
        "details": {"since": "2009"},
    }
    assert HEADER not in refused.headers


def test_a_command_without_an_outcome_is_202_and_its_position_is_carried(kafka: Kafka, browser: TestClient) -> None:
    kafka.outcome = NoReply("not yet", "17", 1_700_000_000_000, Token("users.command/3@78"), None, "it is held")
    unknown = browser.post("/users")
    assert unknown.status_code == 202
    assert unknown.json() == {
        "command_id": "17",
        "position": "users.command/3@78",
        "issued_ms": 1_700_000_000_000,
        "detail": "not yet",
        "held": "it is held",
    }
    assert browser.cookies[COOKIE] == "users.command%2F3%4078"


NAMES = [
    name
    for name, cls in vars(errors).items()
    if isinstance(cls, type) and issubclass(cls, PipelineError) and name not in ("NoReply", "NotKnownYet")
]


@pytest.mark.parametrize("name", NAMES)
def test_each_error_is_a_problem_document(browser: TestClient, name: str) -> None:
    reply = browser.get(f"/raise/{name}")
    # Where the application itself has no token, it is not the browser that lacks something.
    assert reply.status_code == (503 if name == "Unauthorized" else getattr(errors, name).http_status)
    assert reply.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in reply.headers) == (reply.status_code == 503)
    assert reply.json()["error"] == name
    assert reply.json()["detail"] == "why"


def test_a_reader_is_told_which_services_are_behind(kafka: Kafka) -> None:
    app = application()

    @app.get("/behind")
    async def behind() -> None:
        raise NotYet("not there in time", [{"service": "users"}])

    with TestClient(app) as client:
        reply = client.get("/behind")
    assert reply.status_code == 504
    assert reply.json()["behind"] == [{"service": "users"}]


def test_a_spoilt_cookie_is_replaced_and_a_spoilt_header_refused(kafka: Kafka, browser: TestClient) -> None:
    for spoilt in ("nonsense", "%FF%00", '"quoted', "users.command%2F3", "a=b=c", "x" * 4_000):
        reply = browser.get("/users", headers={"Cookie": f"other=1; {COOKIE}={spoilt}; last"})
        assert reply.status_code == 200, spoilt
        assert reply.headers["set-cookie"] == f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
    assert all(options == {} for options in kafka.options())
    refused = browser.get("/users", headers={HEADER: "nonsense"})
    assert (refused.status_code, refused.json()["error"]) == (400, "InvalidToken")


def test_below_a_prefix_the_cookie_is_for_that_alone(kafka: Kafka) -> None:
    with TestClient(application(), root_path="/shop", base_url="https://example.org") as client:
        cookie = client.post("/users", follow_redirects=False).headers["set-cookie"]
    assert "; Path=/shop;" in cookie
    assert cookie.endswith("; Secure")


def test_the_clients_are_closed_with_the_application_and_can_be_opened_again(kafka: Kafka) -> None:
    app = application()
    for opened in (1, 2):
        with TestClient(app) as client:
            assert client.get("/users").status_code == 200
            assert kafka.closed == 2 * (opened - 1)
        assert kafka.closed == 2 * opened


def test_an_application_starts_without_kafka_says_so_and_comes_up_with_it(
    kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    kafka.away = BrokerUnreachable("no Kafka broker answers")
    with TestClient(application()) as client:
        assert "the clients cannot be opened: no Kafka broker answers" in caplog.text
        assert caplog.text.count("no Kafka broker answers") == 1  # not each time that it is tried
        reply = client.get("/users")
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert reply.json()["error"] == "BrokerUnreachable"
        kafka.away = None
        while client.get("/users").status_code == 503:
            pass
        assert client.get("/users").status_code == 200
    assert "Kafka answers now" in caplog.text
    assert kafka.closed == 2


def test_an_application_that_is_stopped_before_kafka_is_there_ends(kafka: Kafka) -> None:
    kafka.away = BrokerUnreachable("no Kafka broker answers")
    with TestClient(application()):
        pass
    assert kafka.closed == 0


def test_what_no_waiting_changes_ends_the_start(kafka: Kafka, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    kafka.away = TopologyError("two services of one name")
    with pytest.raises(TopologyError), TestClient(application()):
        pass
    lost = Clients("no_such_topology", "localhost:1")
    with pytest.raises(TopologyError, match="no_such_topology"), TestClient(FastAPI(lifespan=lost.lifespan)):
        pass


def test_a_forgotten_step_is_named(kafka: Kafka) -> None:
    app = application()
    reply = TestClient(app).get("/users")  # not a context manager, so the lifespan does not run
    assert (reply.status_code, reply.json()["error"]) == (503, "BrokerUnreachable")
    assert "lifespan" in reply.json()["detail"]
    bare = FastAPI()

    @bare.get("/")
    async def read(queries: Queries) -> None: ...

    with pytest.raises(RuntimeError, match="install"):
        TestClient(bare).get("/")


def test_an_author_overrides_a_dependency_in_tests_without_kafka() -> None:
    class Recorded:
        async def send(self, *_: Any, **__: Any) -> Accepted:
            return Accepted(1, (), Token())

    app = application()
    app.dependency_overrides[get_commands] = Recorded
    assert TestClient(app).post("/users", follow_redirects=False).status_code == 303


def test_changes_are_streamed_as_a_worker_does(browser: TestClient) -> None:
    reply = browser.get("/live")
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = [dict(line.split(": ", 1) for line in each.splitlines()) for each in reply.text.split("\n\n") if each]
    assert [each["id"] for each in events] == ["users.state/3@0", "users.state/3@1"]
    assert json.loads(events[1]["data"]) == {"key": "anna", "row": {"n": 1}, "position": "users.state/3@1"}


class Watched:
    """Changes of a row, one at a time."""

    def __init__(self, *changes: Any) -> None:
        self.changes, self.open, self.more = changes, False, asyncio.Event()

    async def watch(self) -> AsyncIterator[Any]:
        self.open = True
        try:
            for change in self.changes:
                if isinstance(change, Exception):
                    raise change
                yield change
            await self.more.wait()
        finally:
            self.open = False


CHANGE = {"key": "anna", "row": None, "position": "users.state/3@0"}


async def parts(response: StreamingResponse, most: int) -> list[str]:
    found: list[str] = []
    async for part in response.body_iterator:
        found.append(str(part))
        if len(found) == most:
            break
    await response.body_iterator.aclose()  # type: ignore[attr-defined]
    return found


def test_a_stream_keeps_the_connection_and_ends_the_watch_when_the_browser_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.contrib.fastapi.streaming.QUIET_S", 0.01)

    async def run() -> None:
        watched = Watched(CHANGE)
        found = await parts(await event_stream(watched.watch()), 3)
        assert found[0].startswith("id: users.state/3@0\n")
        assert found[1:] == [":\n\n", ":\n\n"]
        assert not watched.open

    asyncio.run(run())


def test_an_error_before_the_first_change_is_raised_and_a_later_one_ends_the_stream() -> None:
    async def run() -> None:
        with pytest.raises(errors.BadRequest):
            await event_stream(Watched(errors.BadRequest("a replica cannot be watched")).watch())
        watched = Watched(CHANGE, TableUnavailable("no worker"))
        assert len(await parts(await event_stream(watched.watch()), 9)) == 1
        assert not watched.open

    asyncio.run(run())

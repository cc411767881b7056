"""The Django project of docs/web.md, with real Django and without Kafka; and the page's other code."""

from __future__ import annotations

import re
import sys
import threading
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import Client as Browser

from pipeline.client import Accepted, Client
from pipeline.client.drive import Driver
from pipeline.client.owner_request import Steps
from pipeline.client.queries import QueryClient
from pipeline.contrib.django import middleware
from pipeline.contrib.django.process import Process
from pipeline.contrib.own_writes.logs import Logs
from pipeline.contrib.own_writes.positions import COOKIE, HEADER
from pipeline.errors import BrokerUnreachable, NoReply, UnknownKey
from pipeline.model import Rejected, Token
from tests.helpers.decided import Decided

PAGE = (Path(__file__).parents[3] / "docs" / "web.md").read_text()
FASTAPI, DJANGO = (re.findall(r"```python\n(.*?)```", part, re.DOTALL) for part in PAGE.split("\n## Django\n"))
URLS = "tests_django_urls"
ANNA = {"name": "Anna", "country": "France"}


def test_the_application_of_the_page_and_its_test_run() -> None:
    assert len(FASTAPI) == 2
    namespace: dict[str, Any] = {"__name__": "web_page"}
    for block in FASTAPI:
        exec(compile(block, "web.md", "exec"), namespace)
    assert {"/users/{name}", "/customers/{name}", "/customers/{name}/live"} <= namespace["app"].openapi()[
        "paths"
    ].keys()


class Kafka:
    """What the clients are made of here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outcome: Any = Accepted(1, (), Token("users.command/3@77"))
        self.read: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.opened = self.closed = 0
        self.away: BrokerUnreachable | None = None
        for client in (Client, QueryClient):
            monkeypatch.setattr(client, "__init__", lambda made, *_, **__: self._open(made))
            monkeypatch.setattr(client, "close", self._close)
        monkeypatch.setattr(Logs, "_absent", lambda *_: set())

    def _open(self, client: Any) -> None:
        self.opened += 1
        if self.away is not None:
            raise self.away
        client._steps, client._driver = self, Driver()

    def _close(self) -> None:
        self.closed += 1

    def ask(self, *args: Any, **options: Any) -> Steps[Decided]:
        self.sent.append(options)
        yield from ()
        return Decided(self.outcome)

    def get(self, _: str, key: str, **options: Any) -> Steps[dict[str, Any]]:
        self.read.append(options)
        yield from ()
        if key == "nobody":
            raise UnknownKey("no row 'nobody'")
        return {"row": {"registered": True}}


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    return Kafka(monkeypatch)


@pytest.fixture(scope="module", autouse=True)
def project() -> None:
    assert len(DJANGO) == 2
    chosen: dict[str, Any] = {}
    exec(compile(DJANGO[0], "web.md", "exec"), chosen)
    urls = types.ModuleType(URLS)
    exec(compile(DJANGO[1], "web.md", "exec"), urls.__dict__)
    sys.modules[URLS] = urls
    where = {"bootstrap": "localhost:1"}
    settings.configure(
        ROOT_URLCONF=URLS,
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=chosen["MIDDLEWARE"],
        PIPELINE=chosen["PIPELINE"] | where,
        DEBUG_PROPAGATE_EXCEPTIONS=True,
    )
    django.setup()


@pytest.fixture
def browser(kafka: Kafka) -> Iterator[Browser]:
    middleware._process.cache_clear()
    process = middleware._process()
    yield Browser()
    process._close()


def test_a_page_reads_its_own_writes(kafka: Kafka, browser: Browser) -> None:
    posted = browser.post("/users/anna", ANNA)
    assert (posted.status_code, posted.json()) == (201, {"version": 1})
    assert posted[HEADER] == "users.command/3@77"
    cookie = posted.cookies[COOKIE].OutputString()
    assert cookie.startswith(f"{COOKIE}=users.command%2F3%4077; expires=")
    assert cookie.endswith("; HttpOnly; Max-Age=3600; Path=/; SameSite=Lax")
    assert browser.get("/customers/anna").json() == {"registered": True}
    assert Browser().get("/customers/anna", headers={HEADER: "users.command/3@9"}).status_code == 200
    assert Browser().get("/customers/anna").status_code == 200
    assert kafka.read == [{"at_least": "users.command/3@77"}, {"at_least": "users.command/3@9"}, {}]
    assert kafka.opened == 2


def test_replies_are_those_of_a_worker(kafka: Kafka, browser: Browser) -> None:
    kafka.outcome = Rejected("already_registered")
    refused = browser.post("/users/anna", ANNA, headers={"Idempotency-Key": "17"})
    assert (refused.status_code, refused["Content-Type"]) == (409, "application/problem+json")
    assert refused.json()["reason"] == "already_registered"
    assert kafka.sent[-1]["command_id"] == "17"
    kafka.outcome = NoReply("not yet", "17", 1_700_000_000_000, Token("users.command/3@78"))
    assert browser.post("/users/anna", ANNA).status_code == 202
    assert browser.cookies[COOKIE].value == "users.command%2F3%4078"
    assert browser.get("/customers/nobody").json()["error"] == "UnknownKey"


def test_a_spoilt_cookie_is_replaced_and_a_spoilt_header_refused(kafka: Kafka, browser: Browser) -> None:
    browser.cookies[COOKIE] = "nonsense"
    read = browser.get("/customers/anna")
    assert (read.status_code, read.cookies[COOKIE].value, read.cookies[COOKIE]["max-age"]) == (200, "", 0)
    refused = browser.get("/customers/anna", headers={HEADER: "nonsense"})
    assert (refused.status_code, refused.json()["error"]) == (400, "InvalidToken")


def test_below_a_prefix_the_cookie_is_for_that_alone(kafka: Kafka, browser: Browser) -> None:
    posted = browser.post("/users/anna", ANNA, SCRIPT_NAME="/shop", secure=True)
    assert (posted.cookies[COOKIE]["path"], posted.cookies[COOKIE]["secure"]) == ("/shop", True)


class CountedLock:
    """A lock that says how many have asked for it."""

    def __init__(self) -> None:
        self.lock, self.came = threading.Lock(), threading.Semaphore(0)

    def __enter__(self) -> None:
        self.came.release()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_requests_that_come_while_kafka_does_not_answer_wait_once(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, lock, go_on = Process("topologies", "localhost:1"), CountedLock(), threading.Event()
    monkeypatch.setattr(process, "_opening", lock)

    def slowly(*_: Any, **__: Any) -> None:
        kafka.opened += 1
        go_on.wait(30)
        raise BrokerUnreachable("no Kafka broker answers")

    monkeypatch.setattr(Client, "__init__", slowly)

    def ask() -> str:
        with pytest.raises(BrokerUnreachable) as raised:
            process.opened()
        return str(raised.value)

    with ThreadPoolExecutor(5) as threads:
        replies = [threads.submit(ask) for _ in range(5)]
        for _ in range(5):
            assert lock.came.acquire(timeout=30)
        go_on.set()
        assert {each.result(30) for each in replies} == {"no Kafka broker answers"}
    assert kafka.opened == 1


def test_while_kafka_is_away_pages_are_503(kafka: Kafka, browser: Browser) -> None:
    kafka.away = BrokerUnreachable("no Kafka broker answers")
    away = browser.get("/customers/anna")
    assert (away.status_code, away["Retry-After"], away.json()["error"]) == (503, "1", "BrokerUnreachable")
    kafka.away = None
    assert browser.get("/customers/anna").status_code == 200


def test_a_forked_process_opens_its_own_and_the_end_closes_them(kafka: Kafka) -> None:
    process = Process("topologies", "localhost:1")
    mine = process.opened()
    assert process.opened() is mine
    process._forked()
    assert process.opened() is not mine
    process._close()
    assert (kafka.opened, kafka.closed) == (4, 2)


def test_what_is_forgotten_is_named(kafka: Kafka, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(settings, "MIDDLEWARE", [])
        with pytest.raises(ImproperlyConfigured, match="MIDDLEWARE lacks"):
            Browser().get("/customers/anna")
    monkeypatch.setattr(settings, "PIPELINE", {"toplogy": "shop"})
    middleware._process.cache_clear()
    with pytest.raises(ImproperlyConfigured, match=r"PIPELINE: .*toplogy"):
        Browser().get("/customers/anna")
    middleware._process.cache_clear()

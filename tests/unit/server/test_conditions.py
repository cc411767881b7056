"""Conditional requests as clients and proxies write them: entity tags, weak ones, lists and `*`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict

from pipeline.client import Accepted
from pipeline.client.commands import Commands
from pipeline.errors import BadRequest, InvalidCommand
from pipeline.model import Rejected, Token
from pipeline.server.entity_tags import Tags, parse_tags
from pipeline.server.pages.commands import CommandApi
from pipeline.server.web import as_problems, mount
from pipeline.testing import TestDriver
from tests.helpers.market import MARKET, Restock
from tests.unit.server.test_snapshot_read import Market

VERSION = 2  # of the tea
COMMANDS = Commands(MARKET)


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("*", Tags(is_any=True)),
        (" * ", Tags(is_any=True)),
        ('"1"', Tags(("1",))),
        ('W/"1"', Tags(("1",))),
        ("7", Tags(("7",))),
        ('"1", W/"2" ,"3"', Tags(("1", "2", "3"))),
        (',, "1",,"2", ', Tags(("1", "2"))),
        ('""', Tags(("",))),
        ('"a,b", "*"', Tags(("a,b", "*"))),
        ('"\xe9"', Tags(("\xe9",))),
    ],
)
def test_tags_are_read_as_rfc_9110_writes_them(text: str, tags: Tags) -> None:
    assert parse_tags("If-Match", text) == tags


@pytest.mark.parametrize(
    "text", ["", ",", "abc", '"1', '1"', '"1" "2"', 'w/"1"', "*, 1", '"a"b', '"a b"', "W/1", "1 2", '"1";q=1']
)
def test_what_is_no_list_of_tags(text: str) -> None:
    with pytest.raises(BadRequest, match=r"If-Match must be \* or tags such as"):
        parse_tags("If-Match", text)


class Sender:
    """Stands for AsyncClient. The aggregate is at VERSION."""

    commands = COMMANDS

    def __init__(self, remembered: Any = None) -> None:
        self.sent: list[Any] = []
        self.remembered = remembered

    async def send(self, aggregate: str, key: str, command: Any, **options: Any) -> Accepted | Rejected:
        expected = options["expected_version"]
        self.sent.append(expected)
        there = VERSION if key == "tea" else 0
        if expected not in (None, there):
            return Rejected("version_conflict", {"expected": str(expected), "actual": str(there)})
        return Accepted(there + 1, (), Token())

    async def outcome(self, aggregate: str, key: str, command_id: str) -> Any:
        if isinstance(self.remembered, Exception):
            raise self.remembered
        return self.remembered


@pytest.fixture
def market() -> Iterator[Market]:
    with TestDriver(MARKET) as driver:
        driver.send("goods", "tea", Restock(5), Restock(5))
        yield Market(driver)


def send(
    market: Market, key: str, *headers: tuple[str, str], sender: Sender | None = None
) -> tuple[int, Any, list[Any]]:
    """Status and body of the reply, and what the commands sent expected."""
    sender = sender or Sender()
    client: Any = sender
    commands = CommandApi(lambda: client, Any, market.dispatcher, market.api.version)  # type: ignore[arg-type]

    async def asked() -> tuple[int, Any]:
        app = web.Application(middlewares=[as_problems])
        mount(app, market.dispatcher, commands.pages())
        async with TestClient(TestServer(app)) as session:
            body = {"type": "Restock", "amount": 1}
            answer = await session.post(f"/v1/commands/goods/{key}", json=body, headers=CIMultiDict(headers))
            return answer.status, await answer.json()

    return *asyncio.run(asked()), sender.sent


@pytest.mark.parametrize(
    ("key", "headers", "status", "expects"),
    [
        ("tea", {"If-Match": '"2"'}, 200, [2]),
        ("tea", {"If-Match": 'W/"2"'}, 200, [2]),
        ("tea", {"If-Match": "2"}, 200, [2]),
        ("tea", {"If-Match": 'W/"1"'}, 409, [1]),
        ("tea", {"If-Match": "*"}, 200, [None]),
        ("new", {"If-Match": "*"}, 409, []),
        ("tea", {"If-Match": '"1", "2", "3"'}, 200, [2]),
        ("tea", {"If-Match": '"1", W/"2"'}, 200, [2]),
        ("tea", {"If-Match": '"abc", "2"'}, 200, [2]),
        ("tea", {"If-Match": '"1", "3"'}, 409, []),
        ("new", {"If-Match": '"0"'}, 200, [0]),
        ("new", {"If-Match": '"0", "1"'}, 200, [0]),
        ("tea", {"If-None-Match": "*"}, 409, [0]),
        ("new", {"If-None-Match": "*"}, 200, [0]),
        ("tea", {"If-None-Match": '"2"'}, 409, []),
        ("tea", {"If-None-Match": 'W/"1", "3"'}, 200, [2]),
        ("new", {"If-None-Match": '"1"'}, 200, [0]),
        ("tea", {"If-Match": "*", "If-None-Match": '"1"'}, 200, [2]),
        ("tea", {"If-Match": '"2"', "If-None-Match": "*"}, 409, []),
        ("tea", {"If-Match": "abc"}, 400, []),
        ("tea", {"If-Match": '"abc"'}, 400, []),
        ("tea", {"If-Match": ""}, 400, []),
        ("tea", {"If-None-Match": "2 3"}, 400, []),
    ],
)
def test_a_command_under_a_condition(
    market: Market, key: str, headers: dict[str, str], status: int, expects: list[Any]
) -> None:
    answered, body, sent = send(market, key, *headers.items())
    assert (answered, sent) == (status, expects), body
    if status == 409:
        assert (body["reason"], body["details"]["actual"]) == ("version_conflict", str(VERSION if key == "tea" else 0))


def test_a_list_may_come_in_several_lines(market: Market) -> None:
    assert send(market, "tea", ("If-Match", '"1"'), ("If-Match", 'W/"2"'))[0] == 200


def test_a_command_sent_again_gets_its_outcome_although_it_has_changed_the_version(market: Market) -> None:
    headers = ("If-Match", '"0", "1"'), ("Idempotency-Key", "first")
    assert send(market, "tea", *headers, sender=Sender(Accepted(2, (), Token())))[:2] == (
        200,
        {"outcome": "accepted", "version": 2, "events": [], "position": "", "complete": True},
    )
    for unknown in (None, InvalidCommand("it keeps no replies")):
        assert send(market, "tea", *headers, sender=Sender(unknown))[0] == 409


@pytest.mark.parametrize("headers", [{"If-Match": '"1", "2"'}, {"If-None-Match": '"1"'}])
def test_a_command_for_later_expects_one_version(market: Market, headers: dict[str, str]) -> None:
    client: Any = Sender()
    commands = CommandApi(lambda: client, Any, market.dispatcher, market.api.version)  # type: ignore[arg-type]

    async def asked() -> int:
        app = web.Application(middlewares=[as_problems])
        mount(app, market.dispatcher, commands.pages())
        async with TestClient(TestServer(app)) as session:
            path, body = "/v1/commands/goods/tea?at=9999-01-01", {"type": "Restock", "amount": 1}
            return (await session.post(path, json=body, headers=headers)).status

    assert asyncio.run(asked()) == 400


@pytest.mark.parametrize("forwarded", [False, True])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("If-None-Match", '"2"')], 304),
        ([("If-None-Match", 'W/"2"')], 304),
        ([("If-None-Match", '"1", W/"2"')], 304),
        ([("If-None-Match", '"1"'), ("If-None-Match", '"2"')], 304),
        ([("If-None-Match", " * ")], 304),
        ([("If-None-Match", '"1"')], 200),
        ([("If-None-Match", '"1,"2"')], 200),
        ([("If-Match", 'W/"2"')], 200),
        ([("If-Match", "*")], 200),
        ([("If-Match", '"1", "3"')], 412),
    ],
)
def test_a_read_under_a_condition(market: Market, headers: list[tuple[str, str]], status: int, forwarded: bool) -> None:
    here = Market(market.driver, market) if forwarded else market
    answered, _, told = asyncio.run(here._ask("GET", "/v1/tables/goods/tea", headers=CIMultiDict(headers)))
    assert answered == status
    assert told["ETag"] == '"2"'


@pytest.mark.parametrize("path", ["/v1/tables/goods/get", "/v1/read"])
@pytest.mark.parametrize("half", ["\\ud800", "\\uDFFF", "a\\udc00b", "\\ud83dx"])
def test_half_of_a_surrogate_pair_is_refused(market: Market, path: str, half: str) -> None:
    headers = {"Content-Type": "application/json"}
    key = f'{{"table": "goods", "key": "{half}"}}' if path == "/v1/read" else f'"{half}"'
    for body in (f'{{"keys": [{key}]}}', f'{{"{half}": [{key}]}}'):
        status, told = market.ask("POST", path, data=body.encode(), headers=headers)
        assert status == 400
        assert "half of a surrogate pair" in told["detail"]


def test_a_whole_surrogate_pair_is_a_character(market: Market) -> None:
    body = b'{"keys": ["\\ud83d\\ude00", "\\\\ud800"]}'
    status, told = market.ask("POST", "/v1/tables/goods/get", data=body, headers={"Content-Type": "application/json"})
    assert (status, told["rows"]) == (200, [None, None])


def test_a_query_that_is_not_utf_8_is_refused(market: Market) -> None:
    from yarl import URL

    status, told = market.ask("GET", URL("/v1/tables/goods?prefix=%ED%A0%80", encoded=True))  # type: ignore[arg-type]
    assert (status, "the query is not UTF-8" in told["detail"]) == (400, True)

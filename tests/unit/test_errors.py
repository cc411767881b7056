"""The bases of errors: what a caller can do, the HTTP status, and what never parks a record."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipeline import errors
from pipeline.client.owner_request import Answer, problem_of
from pipeline.errors import BadInput, NeedsOperator, NotFound, PipelineError, Retryable
from pipeline.flow.functions.raised import is_topologys
from pipeline.server.web import as_problems

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
BASES = (Retryable, BadInput, NotFound, NeedsOperator)
# Neither: sending again needs the id; bytes are nobody's input; what needs a copy that lacks events, belongs to another
# partition, or cannot be upcast, is parked.
OTHERS = {
    errors.NoReply,
    errors.UndecodableRecord,
    errors.NotKnownYet,
    errors.CopyHeld,
    errors.Misplaced,
    errors.UpcastFailed,
}
STATUS = {
    401: ["Unauthorized"],
    404: ["UnknownTable", "UnknownAggregate", "UnknownKey", "UnknownCommand", "NoHistory", "NoDeadlines", "NotParked"],
    400: ["BadRequest", "InvalidMoment", "InvalidToken", "NoSuchConsistency"],
    409: ["CopyHeld"],
    410: ["HistoryIncomplete"],
    422: ["ForeignToken", "InvalidCommand", "EncodeError"],
    500: ["FoldError", "UpcastFailed", "TopologyError", "SchemaError"],
    503: [
        "TableUnavailable",
        "Contended",
        "Overloaded",
        "BrokerUnreachable",
        "LaneFatal",
        "TopicError",
        "StoreDamaged",
    ],
    504: ["NotYet"],
}


def every(base: type[PipelineError]) -> Iterator[type[PipelineError]]:
    for cls in base.__subclasses__():
        if cls.__module__ == errors.__name__:
            yield cls
            yield from every(cls)


def test_a_caller_can_tell_what_to_do_about_each_error() -> None:
    for cls in set(every(PipelineError)) - set(BASES) - OTHERS:
        assert any(issubclass(cls, base) for base in BASES), cls
    assert not any(issubclass(cls, BASES) for cls in OTHERS)
    for cls in every(Retryable):
        assert not issubclass(cls, (BadInput, NotFound, NeedsOperator)), cls


@pytest.mark.parametrize(("status", "name"), [(status, name) for status, names in STATUS.items() for name in names])
def test_an_error_that_leaves_a_page_has_its_status(status: int, name: str) -> None:
    async def page(_: web.Request) -> web.Response:
        raise getattr(errors, name)("what, where, cure")

    async def asked() -> tuple[int, str | None, str]:
        app = web.Application(middlewares=[as_problems])
        app.add_routes([web.get("/", page)])
        async with TestClient(TestServer(app)) as client:
            response = await client.get("/")
            return response.status, response.headers.get("Retry-After"), (await response.json())["error"]

    assert asyncio.run(asked()) == (status, "1" if status == 503 else None, name)


def problem_document(error: PipelineError) -> Answer:
    """The answer of a page that raises the error."""

    async def page(_: web.Request) -> web.Response:
        raise error

    async def asked() -> Answer:
        app = web.Application(middlewares=[as_problems])
        app.add_routes([web.get("/", page)])
        async with TestClient(TestServer(app)) as client:
            response = await client.get("/")
            return Answer(response.status, await response.json(), response.headers)

    return asyncio.run(asked())


@pytest.mark.parametrize("cls", [cls for cls in every(PipelineError) if cls is not errors.NoReply])
def test_a_client_raises_what_a_page_has_raised(cls: type[PipelineError]) -> None:
    answer = problem_document(cls("what, where, cure"))
    assert answer.status == cls.http_status
    raised = problem_of(answer)
    assert type(raised) is cls
    assert str(raised) == "what, where, cure"


def test_a_client_knows_which_service_lags() -> None:
    raised = problem_of(problem_document(errors.NotYet("not yet", [{"service": "reports"}])))
    assert isinstance(raised, errors.NotYet)
    assert raised.behind == [{"service": "reports"}]


def test_the_page_on_errors_has_each_with_its_base_and_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)
    told = {name: (bases, int(status)) for name, bases, status, _ in rows}
    assert len(rows) == len(told)
    assert told == {
        cls.__name__: (", ".join(f"`{base.__name__}`" for base in cls.__bases__), cls.http_status)
        for cls in [PipelineError, *every(PipelineError)]
    }


def test_the_code_on_the_page_on_errors_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found: dict[str, Any] = {}
    exec(compile(block, "errors.md", "exec"), found)
    assert found["advice"](errors.NotYet("x")) == "make the same call again, later"
    assert "command_id='c' and issued_ms=5" in found["advice"](errors.NoReply("x", "c", 5, None))
    assert found["advice"](errors.CopyHeld("x")) == "read the message"


def test_trouble_of_the_engine_parks_no_record() -> None:
    """A topic that is gone, as the producer says in the middle of a fold, is no fault of the record."""
    for cls in (errors.TopicError, errors.LaneFatal, errors.StateDirectoryError, errors.Overloaded):
        assert not is_topologys(cls("x"))
    for cls in (errors.EncodeError, errors.TopologyError, errors.UndecodableRecord, ValueError):
        assert is_topologys(cls("x"))

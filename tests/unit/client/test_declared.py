"""What the clients ask is declared: method, path and parameters of each request are those of one endpoint."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.client.owner_request import Blocking, HttpCall, Open
from pipeline.client.requests import Options, Requests
from pipeline.server.endpoint import Endpoint
from pipeline.server.openapi import DECLARED
from tests.helpers.market import MARKET

READ: dict[str, Any] = {"consistency": "eventual", "max_age": 1.0, "wait": 1.0, "pending": "hide"}
CALLS: dict[str, tuple[Any, ...]] = {
    "get": ("goods", "a/b", READ),
    "get_many": ("goods", ["a", ".."], READ),
    "read_together": ([("goods", "a"), ("goods", "b")], {"wait": 1.0}),
    "scan": ("goods", {"prefix": "a", "limit": 5, "partition": 1, "start": "a", "to": "b", **READ}),
    "watch": ("goods", "a/b", "goods.command/0@1", {"wait": 1.0}),
    "history": ("goods", "a/b", 3, 5),
    "state_as_of": ("goods", "a/b", 7),
    "deadlines": ("goods", "a/b"),
    "sagas": ("sale", ("running",)),
    "saga": ("sale", "a/b"),
    "positions": ("market",),
}


class Asked(Exception):
    """The first request."""


def first_request(name: str, arguments: tuple[Any, ...]) -> HttpCall:
    """What a client asks first, in a world in which one worker has all partitions."""
    router: Any = SimpleNamespace(
        topology=MARKET,
        knows=lambda table: False,
        partition=lambda table, key: 1,
        holder=lambda table, partition: "http://w",
        workers=lambda service: ["http://w"],
    )
    *given, options = arguments if isinstance(arguments[-1], dict) else (*arguments, {})
    steps = getattr(Requests(router, 1.0, eventual=False), name)(*given, **options)
    step = next(steps)
    while not isinstance(step, HttpCall | Open):
        step = steps.send(step.function() if isinstance(step, Blocking) else None)
    return step.call if isinstance(step, Open) else step


def declared(call: HttpCall) -> list[Endpoint]:
    """The endpoints that the request fits."""
    method = "GET" if call.body is None else "POST"
    endpoints = {each for each in DECLARED if isinstance(each, Endpoint) and each.method == method}
    return [
        endpoint
        for endpoint in endpoints
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(endpoint.template)), call.path)
    ]


@pytest.mark.parametrize("name", CALLS)
def test_each_request_is_declared(name: str) -> None:
    call = first_request(name, CALLS[name])
    # As the server's router, it prefers what is said literally: /v1/tables/{table}/get to /v1/tables/{table}/{key}.
    found = sorted(declared(call), key=lambda endpoint: endpoint.template.count("{"))
    endpoint, *others = [each for each in found if each.template.count("{") == found[0].template.count("{")]
    assert not others, [each.path for each in others]
    taken = {param.name for param in endpoint.params if param.place == "query"}
    taken |= {*Options.__annotations__} if endpoint.reads else set()
    assert {*call.query} <= taken, f"{endpoint.path} does not take {sorted({*call.query} - taken)}"
    assert (endpoint.body is not None) == (call.body is not None)


def test_no_request_is_left_out() -> None:
    methods = {name for name in dir(Requests) if callable(getattr(Requests, name)) and not name.startswith("_")}
    assert methods == CALLS.keys()

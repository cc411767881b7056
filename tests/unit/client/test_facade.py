"""The clients for threads and for asyncio have one surface: the same methods, parameters, defaults and docs."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from pipeline import AsyncQueryClient, QueryClient
from pipeline.client import AsyncClient, Client
from pipeline.client.command_requests import CommandRequests
from pipeline.client.requests import Requests

PAIRS = [(QueryClient, AsyncQueryClient), (Client, AsyncClient)]


def surface(client: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(client) if not name.startswith("_")}


@pytest.mark.parametrize(("sync", "asynchronous"), PAIRS)
def test_both_have_the_same_methods(sync: type, asynchronous: type) -> None:
    ours, theirs = surface(sync), surface(asynchronous)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert inspect.getdoc(ours[name]) == inspect.getdoc(theirs[name]), name
        assert inspect.getdoc(ours[name]), name
        if isinstance(ours[name], property):
            continue
        one, other = inspect.signature(ours[name]), inspect.signature(theirs[name])
        assert one.parameters == other.parameters, name
        assert one.return_annotation == re.sub("^Async(?=Iterator)", "", other.return_annotation), name
    assert inspect.signature(sync) == inspect.signature(asynchronous)


@pytest.mark.parametrize(("sync", "asynchronous"), PAIRS)
def test_of_the_one_nothing_is_awaited_and_of_the_other_all_that_takes_time(sync: type, asynchronous: type) -> None:
    at_once = {"cache_figures", "commands"}
    for name, method in surface(sync).items():
        assert not inspect.iscoroutinefunction(method), name
    for name, method in surface(asynchronous).items():
        if name not in at_once:
            streams = inspect.signature(method).return_annotation.startswith("AsyncIterator")
            assert streams or inspect.iscoroutinefunction(method), name


def test_each_request_is_a_method_of_the_clients() -> None:
    assert surface(Requests).keys() | {"cache_figures", "close"} == surface(QueryClient).keys()
    assert surface(CommandRequests).keys() | {"commands"} == surface(Client).keys()


def test_help_shows_parameters_and_what_comes_back() -> None:
    assert str(inspect.signature(QueryClient.get)) == (
        "(self, table: 'AnyTable', key: 'str', **options: 'Unpack[Options]') -> 'Json | Row[Any]'"
    )
    assert inspect.signature(AsyncQueryClient.scan).return_annotation == "AsyncIterator[Json | Row[Any]]"

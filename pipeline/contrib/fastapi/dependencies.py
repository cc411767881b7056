"""The clients of a request, as FastAPI's dependencies."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header
from starlette.requests import HTTPConnection

from pipeline.client import AsyncClient
from pipeline.client.queries import AsyncQueryClient
from pipeline.contrib.fastapi.clients import Clients
from pipeline.contrib.fastapi.middleware import KEY, Carried
from pipeline.contrib.own_writes.clients import own_commands, own_queries
from pipeline.contrib.own_writes.request import IDEMPOTENCY_KEY, ISSUED_AT, OwnRequest
from pipeline.server.endpoints.aggregates import COMMAND_ID, ISSUED

INSTALL = "this application has no clients: call `clients.install(app)`, or override this dependency in a test"


async def get_commands(
    request: HTTPConnection,
    key: Annotated[str, Header(alias=IDEMPOTENCY_KEY, description=COMMAND_ID.description)] = "",
    issued: Annotated[str, Header(alias=ISSUED_AT, description=ISSUED.description)] = "",
) -> AsyncClient:
    """Return the client for the commands of this request. Raises BrokerUnreachable while Kafka does not answer."""
    clients, carried = _carried(request)
    commands, _, logs = clients.opened()
    return own_commands(commands, OwnRequest(logs, carried.writes, key, issued))


async def get_queries(request: HTTPConnection) -> AsyncQueryClient:
    """Return the client for the reads of this request. Raises BrokerUnreachable while Kafka does not answer."""
    clients, carried = _carried(request)
    _, queries, logs = clients.opened()
    return own_queries(queries, OwnRequest(logs, carried.writes))


def _carried(request: HTTPConnection) -> tuple[Clients, Carried]:
    carried: Carried | None = request.scope.get(KEY)
    if carried is None or not isinstance(carried.source, Clients):
        raise RuntimeError(INSTALL)
    if carried.error is not None:
        raise carried.error
    return carried.source, carried


Commands = Annotated[AsyncClient, Depends(get_commands)]
"""The type of a path function's parameter: the client that `get_commands` returns."""
Queries = Annotated[AsyncQueryClient, Depends(get_queries)]
"""The type of a path function's parameter: the client that `get_queries` returns."""

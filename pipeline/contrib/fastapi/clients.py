"""The connections of one FastAPI application: opened and closed with it, shared by all its requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from pipeline.adapters.json.writing import json_text
from pipeline.cli.options import Where
from pipeline.client import AsyncClient
from pipeline.client.queries import AsyncQueryClient
from pipeline.client.wire.access import Given as AccessToken
from pipeline.contrib.fastapi.middleware import OwnWritesMiddleware
from pipeline.contrib.own_writes.logs import Logs
from pipeline.contrib.own_writes.positions import COOKIE
from pipeline.contrib.problems import reply_to
from pipeline.contrib.settings import Given, find_cluster
from pipeline.errors import BrokerUnreachable, NeedsOperator, PipelineError, Retryable
from pipeline.topology import Topology

log = logging.getLogger(__name__)

START_S = 5.0  # how long the application's start waits for Kafka
RETRY_S = 1.0
UNOPENED = (
    "the clients are not open: make the application with FastAPI(lifespan=clients.lifespan), and run its lifespan"
)


class Opened(NamedTuple):
    """The connections of the process."""

    commands: AsyncClient
    queries: AsyncQueryClient
    logs: Logs


class Clients:
    """The clients of one application, for the dependencies `Commands` and `Queries`.

    `topology`: its name, or one that is loaded. What the arguments leave out, PIPELINE_TOPOLOGY and so on or
    pipeline.toml say, as on the command line; `config` names another file. `name`: of the requester, for the topic
    `<name>.reply`; all processes of an application share it. `cookie`: the name of the cookie that carries positions,
    empty for none: then only the header X-Pipeline-Position does. `patience_s`, `cache_bytes`, `token`: as QueryClient.
    """

    def __init__(
        self,
        topology: Topology | Given = None,
        bootstrap: str | None = None,
        *,
        schemas: Given = None,
        home: Given = None,
        config: Given = None,
        name: str = "web",
        cookie: str = COOKIE,
        patience_s: float = 5.0,
        cache_bytes: int = 0,
        token: AccessToken = None,
    ) -> None:
        self._topology, self._bootstrap = topology, bootstrap
        self._schemas, self._home, self._config = schemas, home, config
        self._name, self._cookie, self._patience_s, self._cache_bytes = name, cookie, patience_s, cache_bytes
        self._token = token
        self._opened: Opened | None = None
        self._error: PipelineError | None = None  # why they are not open yet

    def install(self, app: FastAPI) -> None:
        """Have the application carry positions, and reply to errors of `pipeline.errors` as a worker does."""
        app.add_middleware(OwnWritesMiddleware, source=self, cookie=self._cookie)
        app.add_exception_handler(PipelineError, _problem)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Open the clients while the application runs.

        If Kafka does not answer, the application starts nevertheless, says so in its log, and tries on: until then its
        dependencies raise BrokerUnreachable, which is 503 with Retry-After. Any other error ends the start.
        """
        where = find_cluster(
            None if isinstance(self._topology, Topology) else self._topology,
            self._bootstrap,
            schemas=self._schemas,
            home=self._home,
            config=self._config,
        )
        topology = self._topology if isinstance(self._topology, Topology) else where.topology
        ending = asyncio.Event()
        opening = asyncio.create_task(self._keep_opening(where, topology, ending))
        try:
            await asyncio.wait({opening}, timeout=START_S)
            if opening.done():
                opening.result()
            else:
                log.warning("the application starts without Kafka, and replies 503 until it answers")
            yield
        finally:
            ending.set()
            await asyncio.gather(opening, return_exceptions=True)
            await self._close()

    async def _keep_opening(self, where: Where, topology: Topology, ending: asyncio.Event) -> None:
        """Open the clients, again and again until it succeeds. Raises what trying again does not change."""
        while not ending.is_set():
            try:
                self._opened = await self._open(where, topology)
                if self._error is not None:
                    log.warning("Kafka answers now; the clients are open")
                return
            except PipelineError as error:
                if str(error) != str(self._error):
                    log.warning("the clients cannot be opened: %s", error)
                self._error = error
                if not isinstance(error, Retryable | NeedsOperator):
                    raise
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), RETRY_S)

    async def _open(self, where: Where, topology: Topology) -> Opened:
        """Open both clients. Raises BrokerUnreachable, and what else their constructors raise."""
        bootstrap = where.address
        commands = await asyncio.to_thread(AsyncClient, bootstrap, topology, self._name, token=self._token)
        try:
            make = partial(
                AsyncQueryClient,
                bootstrap,
                topology,
                self._patience_s,
                cache_bytes=self._cache_bytes,
                token=self._token,
            )
            return Opened(commands, await asyncio.to_thread(make), Logs(bootstrap, topology))
        except BaseException:
            await commands.close()
            raise

    async def _close(self) -> None:
        opened, self._opened, self._error = self._opened, None, None
        if opened is not None:
            try:
                await opened.queries.close()
            finally:
                await opened.commands.close()

    def opened(self) -> Opened:
        """Return the connections. Raises BrokerUnreachable, or why else they are not open yet."""
        if self._opened is None:
            raise self._error or BrokerUnreachable(UNOPENED)
        return self._opened


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, PipelineError)
    reply = reply_to(error)
    return Response(json_text(reply.body), reply.status, reply.headers, reply.kind)

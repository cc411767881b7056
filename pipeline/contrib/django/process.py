"""The connections of a process: opened by its first request, so that servers may fork before, and closed at its end."""

from __future__ import annotations

import atexit
import os
import threading
import time
from contextlib import suppress
from typing import NamedTuple

from pipeline.adapters.kafka import admin_client
from pipeline.client import Client
from pipeline.client.queries import QueryClient
from pipeline.client.wire.access import Given as AccessToken
from pipeline.contrib.own_writes.logs import Logs
from pipeline.contrib.settings import Given, find_cluster
from pipeline.errors import BrokerUnreachable, PipelineError


class Opened(NamedTuple):
    """The connections. They are for all threads."""

    commands: Client
    queries: QueryClient
    logs: Logs


class Process:
    """Opens the connections of this process when they are first needed. The arguments: see `fastapi.Clients`."""

    def __init__(
        self,
        topology: Given = None,
        bootstrap: str | None = None,
        *,
        schemas: Given = None,
        home: Given = None,
        config: Given = None,
        name: str = "web",
        patience_s: float = 5.0,
        cache_bytes: int = 0,
        token: AccessToken = None,
    ) -> None:
        self._topology, self._bootstrap = topology, bootstrap
        self._schemas, self._home, self._config = schemas, home, config
        self._name, self._patience_s, self._cache_bytes = name, patience_s, cache_bytes
        self._token = token
        self._opened: Opened | None = None
        self._left: list[Opened] = []  # of the process that this one was forked from: not to be touched
        self._error: PipelineError | None = None
        self._failed_s = 0.0
        self._opening = threading.Lock()
        os.register_at_fork(after_in_child=self._forked)
        atexit.register(self._close)

    def opened(self) -> Opened:
        """Return the connections. Raises BrokerUnreachable, and what else their constructors raise.

        Requests that come while one tries share what becomes of it: they would only wait again.
        """
        if self._opened is None:
            came_s = time.monotonic()
            with self._opening:
                if self._error is not None and self._failed_s > came_s:
                    raise self._error
                if self._opened is None:
                    try:
                        self._opened = self._open()
                    except PipelineError as error:
                        self._error, self._failed_s = error, time.monotonic()
                        raise
                return self._opened
        return self._opened

    def _open(self) -> Opened:
        where = find_cluster(
            self._topology, self._bootstrap, schemas=self._schemas, home=self._home, config=self._config
        )
        topology, bootstrap = where.topology, where.address
        commands = Client(bootstrap, topology, self._name, token=self._token)
        try:
            queries = QueryClient(
                bootstrap, topology, self._patience_s, cache_bytes=self._cache_bytes, token=self._token
            )
            return Opened(commands, queries, Logs(bootstrap, topology))
        except BaseException:
            commands.close()
            raise

    def _forked(self) -> None:
        """Forget the connections: their threads have stayed in the other process."""
        if self._opened is not None:
            self._left.append(self._opened)
            admin_client.cache_clear()
        self._opened, self._opening = None, threading.Lock()

    def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(BrokerUnreachable):  # all that a page has sent, it has waited for
                opened.commands.close()
            opened.queries.close()

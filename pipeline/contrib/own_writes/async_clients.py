"""The clients of one request in an event loop. They share the connections of the process, and do not close them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast

from pipeline.client import AsyncClient, Outcome, Pending
from pipeline.client.queries import AsyncQueryClient
from pipeline.contrib.own_writes.request import OwnRequest
from pipeline.errors import NoReply


class RequestClient(AsyncClient):
    """Sends the commands of one request, under the ids that its Idempotency-Key gives, and notes their positions."""

    def __init__(self, client: AsyncClient, request: OwnRequest) -> None:
        vars(self).update(vars(client))
        self._request = request

    async def send(self, *args: Any, wait: float | None = None, **options: Any) -> Any:
        """As AsyncClient.send; without `wait` it returns the command's id once the broker has stored it."""
        if wait is None:
            return (await self.store(*args, **options))[0]
        return await (await self.ask(*args, **options)).result_async(wait)

    async def ask(self, *args: Any, **options: Any) -> Any:
        """As AsyncClient.ask."""
        return _Pending(await super().ask(*args, **self._request.sending(options)), self._request)

    async def store(self, *args: Any, **options: Any) -> Any:
        """As AsyncClient.store."""
        try:
            command_id, position = await super().store(*args, **self._request.sending(options))
        except NoReply as error:
            self._request.not_decided(error)
            raise
        self._request.stored(position)
        return command_id, position

    async def outcome(self, *args: Any) -> Any:
        """As AsyncClient.outcome."""
        return self._request.decided(await super().outcome(*args))

    async def close(self) -> None:
        """Do nothing: the connections are those of the process."""


class _Pending(Pending):
    """A command that was sent, whose position is noted once it is known."""

    def __init__(self, pending: Pending, request: OwnRequest) -> None:
        vars(self).update(vars(pending))
        self._request = request

    async def result_async(self, timeout_s: float) -> Outcome:
        """As Pending.result_async."""
        try:
            return self._request.decided(await super().result_async(timeout_s))
        except NoReply as error:
            self._request.not_decided(error)
            raise


class RequestQueryClient(AsyncQueryClient):
    """Reads for one request: what the browser has written is contained, unless the read says something else."""

    def __init__(self, client: AsyncQueryClient, request: OwnRequest) -> None:
        vars(self).update(vars(client))
        self._request = request

    async def get(self, table: Any, *args: Any, **options: Any) -> Any:
        """As AsyncQueryClient.get."""
        return await super().get(table, *args, **await self._containing(table, options))

    async def get_many(self, table: Any, *args: Any, **options: Any) -> Any:
        """As AsyncQueryClient.get_many."""
        return await super().get_many(table, *args, **await self._containing(table, options))

    async def scan(self, table: Any, *args: Any, **options: Any) -> AsyncIterator[Any]:
        """As AsyncQueryClient.scan."""
        async with aclosing(_generator(super().scan(table, *args, **await self._containing(table, options)))) as rows:
            async for row in rows:
                yield row

    async def watch(self, table: Any, key: str, since: str | None = None, **options: Any) -> AsyncIterator[Any]:
        """As AsyncQueryClient.watch; the first row contains what the browser has written."""
        if since is None:
            since = (await self._containing(table, {})).get("at_least")
        async with aclosing(_generator(super().watch(table, key, since, **options))) as rows:
            async for row in rows:
                yield row

    async def _containing(self, table: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a read that has to contain what was written. Raises ForeignToken."""
        request = self._request
        if not request.reads_own_writes(options):
            return {**options}
        known = request.logs.are_known(request.writes)
        token = request.at_least(table) if known else await asyncio.to_thread(request.at_least, table)
        return {**options, "at_least": token} if token else {**options}

    async def close(self) -> None:
        """Do nothing: the connections are those of the process."""


def _generator(rows: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """Return what the client's iterators are, so that one that is left early is closed at once."""
    return cast(AsyncGenerator[Any, None], rows)

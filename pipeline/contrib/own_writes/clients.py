"""The clients of one request over the connections of the process, as steps that serve threads and event loops alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pipeline.client import AsyncClient, Client, Outcome, Pending
from pipeline.client.facade import over
from pipeline.client.owner_request import Blocking, Steps, Stream
from pipeline.client.queries import AsyncQueryClient, QueryClient
from pipeline.contrib.own_writes.request import OwnRequest
from pipeline.errors import NoReply

C = TypeVar("C", Client, AsyncClient)
Q = TypeVar("Q", QueryClient, AsyncQueryClient)


def own_commands(client: C, request: OwnRequest) -> C:
    """Return the client that sends one request's commands, under the ids that its Idempotency-Key gives."""
    return over(client, lambda steps: _Commands(steps, request))


def own_queries(client: Q, request: OwnRequest) -> Q:
    """Return the client whose reads contain what the browser has written, unless a read says something else."""
    return over(client, lambda steps: _Queries(steps, request))


class _OfRequest:
    """The steps of a client, some of them otherwise."""

    def __init__(self, steps: Any, request: OwnRequest) -> None:
        self._steps, self._request = steps, request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steps, name)


class _Commands(_OfRequest):
    """Notes the positions of what is sent. Methods are as those of CommandRequests."""

    def send(self, *args: Any, wait: float | None = None, **options: Any) -> Steps[str | Outcome]:
        """Without `wait`, return the command's id once the broker has stored it."""
        if wait is None:
            return (yield from self.store(*args, **options))[0]
        pending = yield from self.ask(*args, **options)
        return (yield from pending.outcome(wait))

    def ask(self, *args: Any, **options: Any) -> Steps[_Pending]:
        pending = yield from self._steps.ask(*args, **self._request.sending(options))
        return _Pending(pending, self._request)

    def store(self, *args: Any, **options: Any) -> Steps[tuple[str, str]]:
        try:
            command_id, position = yield from self._steps.store(*args, **self._request.sending(options))
        except NoReply as error:
            self._request.not_decided(error)
            raise
        self._request.stored(position)
        return command_id, position

    def outcome(self, *args: Any) -> Steps[Any]:
        return self._request.decided((yield from self._steps.outcome(*args)))


class _Pending(Pending):
    """A command that was sent, whose position is noted once it is known."""

    def __init__(self, pending: Pending, request: OwnRequest) -> None:
        self.id, self.issued_ms = pending.id, pending.issued_ms
        self._pending, self._request = pending, request

    def outcome(self, timeout_s: float) -> Steps[Outcome]:
        """As Pending.outcome."""
        try:
            return self._request.decided((yield from self._pending.outcome(timeout_s)))
        except NoReply as error:
            self._request.not_decided(error)
            raise


class _Queries(_OfRequest):
    """Reads what contains the request's writes. Methods are as those of Requests."""

    def get(self, table: Any, *args: Any, **options: Any) -> Steps[Any]:
        return (yield from self._steps.get(table, *args, **(yield from self._containing(table, options))))

    def get_many(self, table: Any, *args: Any, **options: Any) -> Steps[Any]:
        return (yield from self._steps.get_many(table, *args, **(yield from self._containing(table, options))))

    def scan(self, table: Any, *args: Any, **options: Any) -> Stream[Any]:
        yield from self._steps.scan(table, *args, **(yield from self._containing(table, options)))

    def watch(self, table: Any, key: str, since: str | None = None, **options: Any) -> Stream[Any]:
        """The first row contains what the browser has written."""
        if since is None:
            since = (yield from self._containing(table, {})).get("at_least")
        yield from self._steps.watch(table, key, since, **options)

    def _containing(self, table: Any, options: Mapping[str, Any]) -> Steps[dict[str, Any]]:
        """Return the options of a read that has to contain what was written. Raises ForeignToken."""
        request = self._request
        if not request.reads_own_writes(options):
            return {**options}
        known = request.logs.are_known(request.writes)
        token = request.at_least(table) if known else (yield Blocking(lambda: request.at_least(table)))
        return {**options, "at_least": token} if token else {**options}

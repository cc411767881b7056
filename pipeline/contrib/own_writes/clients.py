"""The clients of one request in a thread. They share the connections of the process, and do not close them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.client import Client, Outcome, Pending
from pipeline.client.queries import QueryClient
from pipeline.contrib.own_writes.request import OwnRequest
from pipeline.errors import NoReply


class RequestClient(Client):
    """Sends the commands of one request, under the ids that its Idempotency-Key gives, and notes their positions."""

    def __init__(self, client: Client, request: OwnRequest) -> None:
        vars(self).update(vars(client))
        self._request = request

    def send(self, *args: Any, wait: float | None = None, **options: Any) -> Any:
        """As Client.send; without `wait` it returns the command's id once the broker has stored it."""
        if wait is None:
            return self.store(*args, **options)[0]
        return self.ask(*args, **options).result(wait)

    def ask(self, *args: Any, **options: Any) -> Any:
        """As Client.ask."""
        return _Pending(super().ask(*args, **self._request.sending(options)), self._request)

    def store(self, *args: Any, **options: Any) -> Any:
        """As Client.store."""
        try:
            command_id, position = super().store(*args, **self._request.sending(options))
        except NoReply as error:
            self._request.not_decided(error)
            raise
        self._request.stored(position)
        return command_id, position

    def outcome(self, *args: Any) -> Any:
        """As Client.outcome."""
        return self._request.decided(super().outcome(*args))

    def close(self) -> None:
        """Do nothing: the connections are those of the process."""


class _Pending(Pending):
    """A command that was sent, whose position is noted once it is known."""

    def __init__(self, pending: Pending, request: OwnRequest) -> None:
        vars(self).update(vars(pending))
        self._request = request

    def result(self, timeout_s: float) -> Outcome:
        """As Pending.result."""
        try:
            return self._request.decided(super().result(timeout_s))
        except NoReply as error:
            self._request.not_decided(error)
            raise


class RequestQueryClient(QueryClient):
    """Reads for one request: what the browser has written is contained, unless the read says something else."""

    def __init__(self, client: QueryClient, request: OwnRequest) -> None:
        vars(self).update(vars(client))
        self._request = request

    def get(self, table: Any, *args: Any, **options: Any) -> Any:
        """As QueryClient.get."""
        return super().get(table, *args, **self._containing(table, options))

    def get_many(self, table: Any, *args: Any, **options: Any) -> Any:
        """As QueryClient.get_many."""
        return super().get_many(table, *args, **self._containing(table, options))

    def scan(self, table: Any, *args: Any, **options: Any) -> Iterator[Any]:
        """As QueryClient.scan."""
        return super().scan(table, *args, **self._containing(table, options))

    def watch(self, table: Any, key: str, since: str | None = None, **options: Any) -> Iterator[Any]:
        """As QueryClient.watch; the first row contains what the browser has written."""
        if since is None:
            since = self._containing(table, {}).get("at_least")
        return super().watch(table, key, since, **options)

    def _containing(self, table: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a read that has to contain what was written. Raises ForeignToken."""
        if self._request.reads_own_writes(options) and (token := self._request.at_least(table)):
            return {**options, "at_least": token}
        return {**options}

    def close(self) -> None:
        """Do nothing: the connections are those of the process."""

"""The client: sends commands and, where asked to, waits for what was decided. One for threads, one for asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures
from functools import partial
from types import TracebackType
from typing import Any, overload

from pipeline.adapters.kafka import admin
from pipeline.client.commands import Commands, Ready
from pipeline.client.fetching import Fetching
from pipeline.client.outcome import Outcome, outcome_of
from pipeline.client.sending import Sending, Waiting
from pipeline.errors import BrokerUnreachable, NoReply
from pipeline.topology import Topology

FLUSH_S = 60.0


class Client:
    """Sends commands. Safe to use from several threads. Use as a context manager, or `close` it at the end.

    `name`: of the requester, whose replies come over the topic `<name>.reply`; instances of one name share the topic,
    each reads its own replies only.
    """

    def __init__(self, bootstrap: str, topology: Topology, name: str = "client") -> None:
        admin(bootstrap)  # an unreachable broker is told now, not when the queue is full
        self.commands = Commands(topology)
        self._sending = Sending(bootstrap, name, self.commands.reply)
        self._fetching = Fetching(bootstrap, topology, self.commands)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def send(
        self,
        aggregate: str,
        key: str,
        command: Any,
        *,
        command_id: str = "",
        correlation_id: str = "",
        expected_version: int | None = None,
    ) -> str: ...
    @overload
    def send(
        self,
        aggregate: str,
        key: str,
        command: Any,
        *,
        command_id: str = "",
        correlation_id: str = "",
        expected_version: int | None = None,
        wait: float,
    ) -> Outcome: ...
    def send(
        self,
        aggregate: str,
        key: str,
        command: Any,
        *,
        command_id: str = "",
        correlation_id: str = "",
        expected_version: int | None = None,
        wait: float | None = None,
    ) -> str | Outcome:
        """Sends `command` to the aggregate `key`. Without `wait` it is queued, and its id comes back at once.

        `wait`: seconds to wait for the outcome, which comes back: Accepted or Rejected. NoReply after that, which says
        what is known by then. `command_id`: the same for the same request, however often it is sent: it has one effect.
        `expected_version`: rejected unless the aggregate is at it. What does not fit raises UnknownAggregate,
        InvalidCommand or EncodeError, and nothing is sent. Waits while the queue is full.
        """
        ids = {"command_id": command_id, "correlation_id": correlation_id}
        if wait is None:
            ready = self.commands.write(aggregate, key, command, expected_version=expected_version, **ids)
            self._sending.queue(ready)
            return ready.id
        ready, waiting = self._ask(aggregate, key, command, expected_version, ids)
        try:
            return outcome_of(waiting.reply.result(wait), self.commands.events)
        except concurrent.futures.TimeoutError:
            raise _no_reply(ready, waiting, wait) from None
        finally:
            self._sending.forget(ready.id)

    def _ask(
        self, aggregate: str, key: str, command: Any, expected_version: int | None, ids: dict[str, str]
    ) -> tuple[Ready, Waiting]:
        self.commands.kind(aggregate)
        reply_to = self._sending.reply_to()
        ready = self.commands.write(
            aggregate, key, command, expected_version=expected_version, reply_to=reply_to, **ids
        )
        return ready, self._sending.ask(ready)

    def outcome(self, aggregate: str, key: str, command_id: str) -> Outcome | None:
        """What became of a command sent earlier, by whomever; None while nothing is known of it.

        Asks the worker that owns the aggregate, which remembers for as long as the aggregate's Idempotency says.
        Raises UnknownAggregate, TableUnavailable where no worker can answer just now.
        """
        return self._fetching.outcome(aggregate, key, command_id)

    def flush(self) -> None:
        """Waits until the broker has stored all that was sent. Raises BrokerUnreachable where it has not."""
        self._sending.flush(FLUSH_S)

    def close(self) -> None:
        """Sends what is queued, and ends."""
        self._fetching.close()
        self._sending.close(FLUSH_S)


class AsyncClient:
    """The same for asyncio: `await client.send(...)`. To be used in one event loop."""

    def __init__(self, bootstrap: str, topology: Topology, name: str = "client") -> None:
        self._client = Client(bootstrap, topology, name)
        self.commands = self._client.commands

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(
        self,
        aggregate: str,
        key: str,
        command: Any,
        *,
        command_id: str = "",
        correlation_id: str = "",
        expected_version: int | None = None,
        wait: float | None = None,
    ) -> str | Outcome:
        """As Client.send; without `wait` it returns the command's id once it is queued."""
        ids = {"command_id": command_id, "correlation_id": correlation_id}
        if wait is None:
            send = partial(self._client.send, aggregate, key, command, expected_version=expected_version, **ids)
            return await asyncio.to_thread(send)
        if not self._client._sending.listening:
            await asyncio.to_thread(self._client._sending.reply_to)
        ready, waiting = self._client._ask(aggregate, key, command, expected_version, ids)
        try:
            reply = await asyncio.wait_for(asyncio.wrap_future(waiting.reply), wait)
            return outcome_of(reply, self.commands.events)
        except TimeoutError:
            raise _no_reply(ready, waiting, wait) from None
        finally:
            self._client._sending.forget(ready.id)

    async def outcome(self, aggregate: str, key: str, command_id: str) -> Outcome | None:
        """As Client.outcome."""
        return await asyncio.to_thread(self._client.outcome, aggregate, key, command_id)

    async def flush(self) -> None:
        """As Client.flush."""
        await asyncio.to_thread(self._client.flush)

    async def close(self) -> None:
        """As Client.close."""
        await asyncio.to_thread(self._client.close)


def _no_reply(ready: Ready, waiting: Waiting, wait_s: float) -> NoReply | BrokerUnreachable:
    """What is known when the wait is over."""
    if waiting.stored is not None:
        what = f"it is stored at {waiting.stored} and will be decided"
    else:
        what = "whether the broker has stored it is not known"
    return NoReply(
        f"no reply to command {ready.id} within {wait_s:g} s: {what}; ask for its outcome later, or send it again with "
        "the same command_id",
        ready.id,
        waiting.stored,
    )

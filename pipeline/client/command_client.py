"""The client: sends commands and, where asked to, waits for what was decided. One for threads, one for asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, TypedDict, Unpack, overload

from pipeline.adapters.kafka import admin
from pipeline.client.commands import Commands, Ready
from pipeline.client.fetching import Fetching
from pipeline.client.sending import QUEUE_S, AwaitedReply, NotAnswered, Sending
from pipeline.client.wire.outcome import Outcome, outcome_of
from pipeline.errors import NoReply
from pipeline.model import Parked, Token
from pipeline.topology import Topology

FLUSH_S = 60.0


class Options(TypedDict, total=False):
    """What may be said of a command.

    `command_id`: the same for the same request, however often it is sent: it has one effect. `issued_ms`: when the
    request was first sent, milliseconds since the epoch, so that one sent again is known to be old; default is now.
    `correlation_id`: common to all that one request has caused; default is the command's id. `expected_version`: the
    command is rejected unless the aggregate is at it. `at`, `after`: it is decided, and answered, only then: at a time,
    in UTC unless it has a zone, or in milliseconds since the epoch; or after so many seconds.
    """

    command_id: str
    issued_ms: int
    correlation_id: str
    expected_version: int | None
    at: datetime | int | None
    after: float | None


class Pending:
    """A command on its way, whose reply is waited for. `id`: the command's; `issued_ms`: when it was sent first."""

    def __init__(self, ready: Ready, question: AwaitedReply, sending: Sending, commands: Commands) -> None:
        self.id, self.issued_ms, self._due_ms = ready.id, ready.issued_ms, ready.due_ms
        self._question, self._sending, self._commands = question, sending, commands

    def result(self, timeout_s: float) -> Outcome:
        """The outcome. Raises NoReply after the time-out, which says what is known by then."""
        try:
            return outcome_of(self._question.reply.result(timeout_s), self._commands.events)
        except concurrent.futures.TimeoutError:
            raise self._no_reply(f"within {timeout_s:g} s") from None
        except NotAnswered as error:
            raise self._no_reply(f"({error})") from None
        finally:
            self._sending.forget(self._question)

    async def result_async(self, timeout_s: float) -> Outcome:
        """The same in an event loop."""
        try:
            reply = await asyncio.wait_for(asyncio.wrap_future(self._question.reply), timeout_s)
            return outcome_of(reply, self._commands.events)
        except TimeoutError:
            raise self._no_reply(f"within {timeout_s:g} s") from None
        except NotAnswered as error:
            raise self._no_reply(f"({error})") from None
        finally:
            self._sending.forget(self._question)

    def _no_reply(self, when: str) -> NoReply:
        stored, parked = self._question.stored, self._question.parked
        if parked is not None:
            what = f"it is parked at {stored}, as {parked}, and is decided once it is redriven"
        elif stored is not None:
            when_due = f" at {self._due_ms} ms since the epoch" if self._due_ms is not None else ""
            what = f"it is stored at {stored} and will be decided{when_due}"
        else:
            what = "whether the broker has stored it is not known"
        return NoReply(
            f"no reply to command {self.id} {when}: {what}; ask for its outcome later, "
            "or send it again with the same command_id and issued_ms",
            self.id,
            self.issued_ms,
            stored,
            parked,
        )


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
    def send(self, aggregate: str, key: str, command: Any, **options: Unpack[Options]) -> str: ...
    @overload
    def send(self, aggregate: str, key: str, command: Any, *, wait: float, **options: Unpack[Options]) -> Outcome: ...
    def send(
        self, aggregate: str, key: str, command: Any, *, wait: float | None = None, **options: Unpack[Options]
    ) -> str | Outcome:
        """Sends `command` to the aggregate `key`. Without `wait` it is queued, and its id comes back at once.

        `wait`: seconds to wait for the outcome, which comes back: Accepted or Rejected. NoReply after that. What does
        not fit raises UnknownAggregate, InvalidCommand or EncodeError, and nothing is sent. Waits while the queue is
        full, Overloaded after that.
        """
        if wait is not None:
            return self.ask(aggregate, key, command, **options).result(wait)
        ready = self.commands.write(aggregate, key, command, **options)
        self._sending.queue(ready)
        return ready.id

    def ask(self, aggregate: str, key: str, command: Any, **options: Unpack[Options]) -> Pending:
        """Sends `command` and returns at once: its outcome is to be had from what comes back. Raises as `send`."""
        return self._ask(aggregate, key, command, QUEUE_S, options)

    def _ask(self, aggregate: str, key: str, command: Any, patience_s: float, options: Options) -> Pending:
        self.commands.kind(aggregate)
        question = self._sending.question()
        try:
            ready = self.commands.write(aggregate, key, command, reply_to=question.reply_to, **options)
        except BaseException:
            self._sending.forget(question)
            raise
        self._sending.ask(question, ready, patience_s)
        return Pending(ready, question, self._sending, self.commands)

    def outcome(self, aggregate: str, key: str, command_id: str) -> Outcome | Parked | None:
        """What became of a command sent earlier, by whomever; Parked where it is put aside, None where unknown.

        Asks the worker that owns the aggregate, which remembers for as long as the aggregate's Idempotency says.
        Raises UnknownAggregate, TableUnavailable where no worker can answer just now.
        """
        return self._fetching.outcome(aggregate, key, command_id)

    def listen(self) -> None:
        """Gets ready for replies, which the first wait does otherwise. Raises TopicError, BrokerUnreachable."""
        self._sending.listen()

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
        self._listens = False
        self.commands = self._client.commands

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @overload
    async def send(self, aggregate: str, key: str, command: Any, **options: Unpack[Options]) -> str: ...
    @overload
    async def send(
        self, aggregate: str, key: str, command: Any, *, wait: float, **options: Unpack[Options]
    ) -> Outcome: ...
    async def send(
        self, aggregate: str, key: str, command: Any, *, wait: float | None = None, **options: Unpack[Options]
    ) -> str | Outcome:
        """As Client.send; without `wait` it returns the command's id once it is queued.

        With `wait` a full queue is Overloaded at once: the event loop is not to stand still.
        """
        if wait is None:
            return await asyncio.to_thread(partial(self._client.send, aggregate, key, command, **options))
        await self._listening()
        return await self._client._ask(aggregate, key, command, 0.0, options).result_async(wait)

    async def _listening(self) -> None:
        if not self._listens:
            await asyncio.to_thread(self._client.listen)
            self._listens = True

    async def store(self, aggregate: str, key: str, command: Any, **options: Unpack[Options]) -> tuple[str, Token]:
        """Sends a command and waits until the broker has it, no more; returns its id and the token of where it stands.

        Raises as `send`, and NoReply where the broker has not confirmed it.
        """
        await self._listening()
        ready = self.commands.write(aggregate, key, command, **options)
        try:
            return ready.id, await asyncio.wrap_future(self._client._sending.store(ready, 0.0))
        except NotAnswered as error:
            raise NoReply(f"command {ready.id}: {error}", ready.id, ready.issued_ms, None) from None

    async def outcome(self, aggregate: str, key: str, command_id: str) -> Outcome | Parked | None:
        """As Client.outcome."""
        return await asyncio.to_thread(self._client.outcome, aggregate, key, command_id)

    async def flush(self) -> None:
        """As Client.flush."""
        await asyncio.to_thread(self._client.flush)

    async def close(self) -> None:
        """As Client.close."""
        await asyncio.to_thread(self._client.close)

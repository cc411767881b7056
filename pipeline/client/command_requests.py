"""The methods of the command clients, as steps without I/O, each declared once. See `owner_request`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from functools import cached_property
from shlex import quote
from types import ModuleType
from typing import Any, TypedDict, TypeVar, Unpack, overload

from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.exact.restored import restored_mark
from pipeline.adapters.kafka.owners import Router
from pipeline.adapters.kafka.schemas.topic import SchemasTopic
from pipeline.adapters.tracing.finding import find_tracer
from pipeline.client.commands import Commands, Ready
from pipeline.client.drive import AsyncDriver, Driver
from pipeline.client.holds import Holds
from pipeline.client.learning import ReplyReader
from pipeline.client.owner_request import Blocking, OwnerRequest, Steps, Wait, problem_of
from pipeline.client.sending import AwaitedReply, NotAnswered, Sending
from pipeline.client.typed.subjects import AnyOwned, taker
from pipeline.client.wire.access import Access
from pipeline.client.wire.outcome import Outcome, outcome_of
from pipeline.client.wire.paths import path_part
from pipeline.client.wire.trace import begun
from pipeline.errors import InvalidCommand, NoReply, TableUnavailable, Unauthorized
from pipeline.model import Aggregate, Parked, ReplyMessage, Saga, Token
from pipeline.model.records.keys import asked_text
from pipeline.topology import Topology, check_topology

FLUSH_S = 60.0

C = TypeVar("C")
Loosely = str | ModuleType | Saga[Any]  # what does not say of which classes its commands are


class Options(TypedDict, total=False):
    """Options of a command.

    `command_id`: identifies the request; a command sent again with the same id has its effect once. `issued_ms`: when
    the request was first sent, in milliseconds since the epoch (default: now); a resend passes it so that its age is
    known. `correlation_id`: common to all that one request causes; default is the command's id. `expected_version`: the
    command is rejected unless the aggregate is at this version. `at`, `after`: schedule the command; it is decided, and
    its reply sent, only then. `at` is a datetime (UTC unless it has a zone) or milliseconds since the epoch, `after` is
    in seconds from now.
    """

    command_id: str
    issued_ms: int
    correlation_id: str
    expected_version: int | None
    at: datetime | int | None
    after: float | None


class Pending:
    """A command that was sent, whose reply is awaited. `id`: the command's id; `issued_ms`: when it was first sent."""

    def __init__(
        self,
        ready: Ready,
        question: AwaitedReply,
        sending: Sending,
        commands: Commands,
        held: Callable[[], Steps[str | None]],
        access: Access,
    ) -> None:
        self.id, self.issued_ms, self._due_ms, self._key = ready.id, ready.issued_ms, ready.due_ms, ready.key
        self._question, self._sending, self._commands, self._held = question, sending, commands, held
        self._access = access

    def result(self, timeout_s: float) -> Outcome:
        """Return the outcome. Raises NoReply after the time-out, with what is known about the command by then."""
        with closing(Driver(self._access)) as driver:
            return driver.run(self.outcome(timeout_s))

    async def result_async(self, timeout_s: float) -> Outcome:
        """Return the outcome, awaited in an event loop. Otherwise as `result`."""
        driver = AsyncDriver(self._access)
        try:
            return await driver.run(self.outcome(timeout_s))
        finally:
            await driver.close()

    def outcome(self, timeout_s: float) -> Steps[Outcome]:
        """The steps of `result`."""
        try:
            reply: ReplyMessage = yield Wait(self._question.reply, timeout_s)
            return outcome_of(reply, self._commands.events, self._commands.mark)
        except TimeoutError:
            held = None
            if self._question.stored is not None and self._question.parked is None:
                held = yield from self._held()
            raise self._no_reply(f"within {timeout_s:g} s", held) from None
        except NotAnswered as error:
            raise self._no_reply(f"({error})") from None
        finally:
            self._sending.forget(self._question)

    def _no_reply(self, when: str, held: str | None = None) -> NoReply:
        stored, parked = self._question.stored, self._question.parked
        ways_on = "ask for its outcome later, or send it again with the same command_id and issued_ms"
        if parked is not None:
            ways_on = f"see its traceback with: pipeline parked show --key {quote(self._key.decode())}"
            what = f"it is parked at {stored}, as {parked}, and is decided once it is redriven"
        elif stored is not None:
            when_due = f" at {self._due_ms} ms since the epoch" if self._due_ms is not None else ""
            what = f"it is stored at {stored} and will be decided{when_due}"
            what += f" once the service goes on; {held}" if held else ""
        else:
            what = "whether the broker has stored it is unknown"
        return NoReply(
            f"no reply to command {self.id} {when}: {what}; {ways_on}", self.id, self.issued_ms, stored, parked, held
        )


class CommandRequests:
    """The requests of one client. `queue_s`: how long `ask` and `store` wait while the queue is full."""

    def __init__(self, bootstrap: str, topology: Topology, name: str, queue_s: float, access: Access) -> None:
        check_topology(topology)
        self._admin = admin(bootstrap)  # an unreachable broker raises now, not when the queue is full
        self._topology, self._queue_s, self._access = topology, queue_s, access
        self.commands = Commands(topology)
        schemas = SchemasTopic(bootstrap, self.commands.registry)
        schemas.publish(self.commands.written)
        self._tracer = find_tracer()
        self.commands.mark = mark = restored_mark(bootstrap, self._admin)
        decode = ReplyReader(self.commands.reply, self.commands.events, schemas).decode
        self._sending = Sending(bootstrap, name, decode, self._tracer, mark)

    @cached_property
    def _router(self) -> Router:
        return Router(self._admin, self._topology)

    @cached_property
    def _holds(self) -> Holds:
        return Holds(self._router, time.monotonic)

    @overload
    def send(
        self, aggregate: Aggregate[C, Any, Any], key: str, command: C, **options: Unpack[Options]
    ) -> Steps[str]: ...
    @overload
    def send(
        self, aggregate: Aggregate[C, Any, Any], key: str, command: C, *, wait: float, **options: Unpack[Options]
    ) -> Steps[Outcome]: ...
    @overload
    def send(self, aggregate: Loosely, key: str, command: Any, **options: Unpack[Options]) -> Steps[str]: ...
    @overload
    def send(
        self, aggregate: Loosely, key: str, command: Any, *, wait: float, **options: Unpack[Options]
    ) -> Steps[Outcome]: ...
    def send(
        self, aggregate: AnyOwned, key: str, command: Any, *, wait: float | None = None, **options: Unpack[Options]
    ) -> Steps[str | Outcome]:
        """Send `command` to the aggregate of the id `key`. Without `wait`, queue it and return its id at once.

        `aggregate`: an Aggregate or a Saga, the module of a service of which one takes such a command, or a name. With
        `wait`, return the outcome, Accepted or Rejected; raises NoReply after `wait` seconds. Raises
        UnknownAggregate, InvalidCommand or EncodeError if the command does not fit; nothing is sent then. Waits while
        the queue is full, then raises Overloaded; with `wait` in an event loop, raises at once.
        """
        if wait is not None:
            pending: Pending = yield from self._ask(taker(aggregate, type(command)), key, command, options)
            return (yield from pending.outcome(wait))
        ready = begun(self._tracer, self.commands.write(taker(aggregate, type(command)), key, command, **options))
        yield Blocking(lambda: self._sending.queue(ready))
        return ready.id

    @overload
    def ask(
        self, aggregate: Aggregate[C, Any, Any], key: str, command: C, **options: Unpack[Options]
    ) -> Steps[Pending]: ...
    @overload
    def ask(self, aggregate: Loosely, key: str, command: Any, **options: Unpack[Options]) -> Steps[Pending]: ...
    def ask(self, aggregate: AnyOwned, key: str, command: Any, **options: Unpack[Options]) -> Steps[Pending]:
        """Send `command` and return at once. The Pending that is returned waits for the outcome.

        Call its `result(timeout_s)`, or in an event loop await its `result_async(timeout_s)`. Raises as `send`.
        """
        return self._ask(taker(aggregate, type(command)), key, command, options)

    def _ask(self, aggregate: str, key: str, command: Any, options: Options) -> Steps[Pending]:
        self.commands.kind(aggregate)
        yield from self.listen()
        question = self._sending.question()
        try:
            ready = self.commands.write(aggregate, key, command, reply_to=question.reply_to, **options)
        except BaseException:
            self._sending.forget(question)
            raise
        ready = begun(self._tracer, ready)
        self._sending.ask(question, ready, self._queue_s)
        return Pending(ready, question, self._sending, self.commands, lambda: self._held(aggregate), self._access)

    def _held(self, aggregate: str) -> Steps[str | None]:
        """Return why the aggregate's service decides nothing, and the cure; None if it is not known to be held."""
        service = self._topology.service_of(aggregate).name
        return (yield from self._holds.of((service,))).get(service)

    @overload
    def store(
        self, aggregate: Aggregate[C, Any, Any], key: str, command: C, **options: Unpack[Options]
    ) -> Steps[tuple[str, Token]]: ...
    @overload
    def store(
        self, aggregate: Loosely, key: str, command: Any, **options: Unpack[Options]
    ) -> Steps[tuple[str, Token]]: ...
    def store(
        self, aggregate: AnyOwned, key: str, command: Any, **options: Unpack[Options]
    ) -> Steps[tuple[str, Token]]:
        """Send a command and wait only until the broker has stored it. Return its id and the token of its position.

        Raises as `send` with `wait`, and NoReply if the broker does not confirm it.
        """
        yield from self.listen()
        ready = begun(self._tracer, self.commands.write(taker(aggregate, type(command)), key, command, **options))
        try:
            stored: Token = yield Wait(self._sending.store(ready, self._queue_s), None)
        except NotAnswered as error:
            raise NoReply(f"command {ready.id}: {error}", ready.id, ready.issued_ms, None) from None
        return ready.id, stored

    def outcome(self, aggregate: AnyOwned, key: str, command_id: str) -> Steps[Outcome | Parked | None]:
        """Return the outcome of a command that any client sent earlier: Parked if it is parked, None if it is unknown.

        Asks the worker that owns the aggregate, which keeps replies for as long as the aggregate's Idempotency says.
        Raises UnknownAggregate, BadRequest, and TableUnavailable if no worker can reply at present.
        """
        name = taker(aggregate, None)
        self.commands.kind(name)
        asked_text("the command's id", command_id)
        partition: int = yield Blocking(lambda: self._router.partition(name, key))
        path = f"/v1/commands/{name}/{path_part(key)}/{path_part(command_id)}"
        answer = yield from OwnerRequest(self._router, time.monotonic, 0).steps(name, partition, path, {})
        if answer.status == 200:
            return self.commands.outcome_from_json(name, answer.body)
        if answer.status == 202:
            return Parked(answer.body["cause"]) if "cause" in answer.body else None  # else it is scheduled
        if answer.status == 404 and answer.body.get("error") == "UnknownCommand":
            return None
        if isinstance(error := problem_of(answer), Unauthorized):
            raise error
        detail = str(error)
        raise InvalidCommand(detail) if answer.status in (404, 422) else TableUnavailable(detail)

    def listen(self) -> Steps[None]:
        """Get ready for replies; otherwise the first wait does this. Raises TopicError, BrokerUnreachable."""
        if not self._sending.listens:
            yield Blocking(self._sending.listen)

    def flush(self) -> Steps[None]:
        """Wait until the broker has stored all that was sent. Raises BrokerUnreachable if it has not."""
        yield Blocking(lambda: self._sending.flush(FLUSH_S))

    def close(self) -> None:
        """Send what is queued, and close."""
        self._sending.close(FLUSH_S)

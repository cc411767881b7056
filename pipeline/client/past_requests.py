"""What the query clients ask of histories, deadlines and sagas, as steps without I/O, each declared once.

See `owner_request` for the steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any, TypeVar, overload

from pipeline.adapters.kafka.owners import Router
from pipeline.client.owner_request import (
    TIMEOUT_S,
    Answer,
    Blocking,
    HttpCall,
    Items,
    Json,
    OwnerRequest,
    Steps,
    Stream,
    problem_of,
)
from pipeline.client.typed.rows import Due, Instance, PastEvent, Row, Standing
from pipeline.client.typed.subjects import AnyOwned, Owned, subject
from pipeline.client.wire.as_of import parse_as_of
from pipeline.client.wire.paths import path_part
from pipeline.errors import Unauthorized
from pipeline.model import Aggregate, Saga
from pipeline.model.saga.saga import IN_FLIGHT

PAGE_ROWS = 1_000

C = TypeVar("C")
E = TypeVar("E")
R = TypeVar("R")


class PastRequests:
    """The requests of one client that are not for rows. `end`: called by `close`."""

    def __init__(self, router: Router, patience_s: float, end: Callable[[], None]) -> None:
        self.router, self.close = router, end
        self._asking = OwnerRequest(router, time.monotonic, patience_s)

    @overload
    def history(self, aggregate: str, key: str, after: int = 0, limit: int | None = None) -> Stream[Json]: ...
    @overload
    def history(
        self, aggregate: Aggregate[Any, E, Any], key: str, after: int = 0, limit: int | None = None
    ) -> Stream[PastEvent[E]]: ...
    @overload
    def history(
        self, aggregate: Saga[Any] | ModuleType, key: str, after: int = 0, limit: int | None = None
    ) -> Stream[PastEvent[Any]]: ...
    def history(
        self, aggregate: AnyOwned, key: str, after: int = 0, limit: int | None = None
    ) -> Stream[Json | PastEvent[Any]]:
        """Yield the events of one aggregate, in order, from the version after `after`, page by page.

        Each is a PastEvent; by the name of an aggregate, it is JSON: `{"version", "time_ms", "command_id",
        "correlation_id", "event"}`, the event with its name as `type`. Yields all of them unless `limit` is given.
        Raises UnknownKey, UnknownTable, NoHistory, TableUnavailable.
        """
        of, at = subject(self.router.topology, aggregate), after
        while at is not None and (limit is None or limit > 0):
            events = min(PAGE_ROWS, limit) if limit is not None else PAGE_ROWS
            page = yield from self._past(of.name, key, "", {"after": str(at), "limit": str(events)})
            yield Items([of.event(event) for event in page["events"][:limit]])  # an old event may have become several
            at = page["next"]
            limit = None if limit is None else limit - len(page["events"])

    @overload
    def state_as_of(self, aggregate: str, key: str, as_of: int | str | datetime) -> Steps[Json]: ...
    @overload
    def state_as_of(self, aggregate: Owned[R], key: str, as_of: int | str | datetime) -> Steps[Row[R]]: ...
    @overload
    def state_as_of(self, aggregate: ModuleType, key: str, as_of: int | str | datetime) -> Steps[Row[Any]]: ...
    def state_as_of(self, aggregate: AnyOwned, key: str, as_of: int | str | datetime) -> Steps[Json | Row[Any]]:
        """Return the Row of an aggregate, as from `get`, as it was at a version or time.

        Before the first event, that is the initial state at version 0. `as_of`: a version (a number below
        100,000,000,000), or a time: milliseconds since the epoch, ISO 8601 or a datetime, UTC unless it has a zone.
        Raises UnknownKey if the version has not been reached, InvalidMoment, HistoryIncomplete if the event log does
        not go back so far, otherwise as `history`.
        """
        text = as_of.isoformat() if isinstance(as_of, datetime) else str(as_of)
        parse_as_of(text)
        of = subject(self.router.topology, aggregate)
        return of.row((yield from self._past(of.name, key, "/state", {"as_of": text})), {})

    @overload
    def deadlines(self, aggregate: str, key: str) -> Steps[list[Json]]: ...
    @overload
    def deadlines(self, aggregate: Aggregate[C, Any, Any], key: str) -> Steps[list[Due[C]]]: ...
    @overload
    def deadlines(self, aggregate: Saga[Any] | ModuleType, key: str) -> Steps[list[Due[Any]]]: ...
    def deadlines(self, aggregate: AnyOwned, key: str) -> Steps[list[Any]]:
        """Return what is still due for one aggregate, in order of time, a thousand at most.

        Each is a Due; by the name of an aggregate, it is JSON: `{"kind", "name", "due_ms", "command_id",
        "correlation_id", "command"}`. `kind` is "deadline", or "scheduled" with the command's id as its name; `due_ms`
        is None once it has been sent. Raises UnknownTable, NoDeadlines, TableUnavailable.
        """
        name = (of := subject(self.router.topology, aggregate)).name
        self.router.topology.with_deadlines(name)
        partition = yield from self._partition(name, key)
        path = f"/v1/deadlines/{name}/{path_part(key)}"
        answer = yield from self._asking.steps(name, partition, path, {})
        return [of.due(each) for each in body_of(answer)["deadlines"]]

    @overload
    def sagas(self, saga: str | None = None, states: Sequence[str] = IN_FLIGHT) -> Stream[Json]: ...
    @overload
    def sagas(self, saga: Saga[Any] | ModuleType, states: Sequence[str] = IN_FLIGHT) -> Stream[Standing]: ...
    def sagas(
        self, saga: str | ModuleType | Saga[Any] | None = None, states: Sequence[str] = IN_FLIGHT
    ) -> Stream[Json | Standing]:
        """Yield where the instances of a saga stand, or of all sagas, whose status is in `states`, by saga and key.

        Each is a Standing; by the name of a saga, or of all, it is JSON: `{"saga", "key", "status", "step", "attempt",
        "waits_for", "reason", "blocks", "since"}`. Raises UnknownTable, TableUnavailable.
        """
        known = self.router.topology
        chosen = sorted(known.sagas) if saga is None else [saga]
        for of in [subject(known, each) for each in chosen]:
            name, after = known.saga(of.name).name, ""
            while after is not None:
                query = {"state": ",".join(states), "limit": str(PAGE_ROWS)} | ({"after": after} if after else {})
                page = body_of((yield from self._asking.steps(name, 0, f"/v1/sagas/{name}", query)))
                yield Items([of.standing(each) for each in page["sagas"]])
                after = page["next"]

    @overload
    def saga(self, saga: str, key: str) -> Steps[Json]: ...
    @overload
    def saga(self, saga: Saga[R], key: str) -> Steps[Instance[R]]: ...
    @overload
    def saga(self, saga: ModuleType, key: str) -> Steps[Instance[Any]]: ...
    def saga(self, saga: str | ModuleType | Saga[Any], key: str) -> Steps[Json | Instance[Any]]:
        """Return one instance as in `sagas`, with its `version` and `state`. Also raises UnknownKey."""
        of = subject(self.router.topology, saga)
        name = self.router.topology.saga(of.name).name
        partition = yield from self._partition(name, key)
        path = f"/v1/sagas/{name}/{path_part(key)}"
        return of.instance(body_of((yield from self._asking.steps(name, partition, path, {}))))

    def positions(self, service: str) -> Steps[dict[str, Json]]:
        """Return the positions of the local tables of a service's workers, by source partition; see /v1/status."""
        found: dict[str, Json] = {}
        workers: list[str] = yield Blocking(lambda: self.router.workers(service))
        for worker in workers:
            answer: Answer | None = yield HttpCall(worker, "/v1/status", {}, TIMEOUT_S)
            if answer is not None and isinstance(error := problem_of(answer), Unauthorized):
                raise error
            if answer is not None and answer.status == 200:  # one that is gone owns nothing; the group knows it soon
                found |= answer.body.get(service, {}).get("positions", {})
        return found

    def _past(self, aggregate: str, key: str, page: str, query: dict[str, str]) -> Steps[Json]:
        self.router.topology.with_history(aggregate)
        partition = yield from self._partition(aggregate, key)
        path = f"/v1/history/{aggregate}/{path_part(key)}{page}"
        return body_of((yield from self._asking.steps(aggregate, partition, path, query)))

    def _partition(self, table: str, key: str) -> Steps[int]:
        if self.router.knows(table):
            return self.router.partition(table, key)
        partition: int = yield Blocking(lambda: self.router.partition(table, key))
        return partition


def body_of(answer: Answer) -> Json:
    """Return the body of an answer. Raises the error that it carries."""
    if error := problem_of(answer):
        raise error
    body: Json = answer.body
    return body

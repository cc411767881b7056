"""The methods of the query clients, as steps without I/O, each declared once.

See `owner_request` for the steps, `queries` for the clients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypedDict, Unpack

from pipeline.adapters.kafka.owners import Router
from pipeline.client.near_cache.cache import NearCache
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
from pipeline.client.watch import WatchRequest
from pipeline.client.wire.as_of import parse_as_of
from pipeline.client.wire.paths import path_part
from pipeline.client.wire.read_options import Pending, ReadOptions, parse_read_options
from pipeline.errors import BadRequest
from pipeline.model import Token
from pipeline.model.records.keys import asked_key, asked_text
from pipeline.model.saga.saga import IN_FLIGHT

KEYS_AT_ONCE = 500
PAGE_ROWS = 1_000
POSITION = "x-pipeline-position"


class Options(TypedDict, total=False):
    """Options of a read.

    `consistency`: "owner" (default), "eventual", "linearizable" or "fresh". `at_least`: a token that the answer must
    contain. `wait`: how many seconds the worker may wait for that. `max_age`: the largest age of an eventual answer, in
    seconds. `pending`: "show" (default), "hide" or "wait": how to treat what is held for transactions; see
    docs/transactions.md.
    """

    consistency: str
    at_least: str
    wait: float
    max_age: float
    pending: str


class Requests:
    """The requests of one client. `eventual`: its default consistency. `end`: called by `close`."""

    def __init__(
        self,
        router: Router,
        patience_s: float,
        *,
        eventual: bool,
        near: NearCache | None = None,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        self.router, self.near, self._patience_s, self.close = router, near, patience_s, end
        self._asking = OwnerRequest(router, time.monotonic, patience_s)
        self._otherwise: Options = {"consistency": "eventual"} if eventual else {}

    def get(self, table: str, key: str, **options: Unpack[Options]) -> Steps[Json]:
        """Return `{"key", "row", "position"}`, for an aggregate also with `version` and `time_ms`.

        `position`: the token of the table's position. See Options and docs/consistency.md. Raises UnknownKey,
        UnknownTable, TableUnavailable, InvalidToken, ForeignToken, NoSuchConsistency, and NotYet if the table has not
        reached the token in time.
        """
        asked = self._reading(options)
        partition = yield from self._partition(table, key)
        # Only workers know which version a switchable name means, so its rows cannot be cached; nor can those with held
        # work removed.
        is_kept = self.router.topology.is_fixed(table) and asked.pending is Pending.SHOW
        near = self.near if is_kept else None
        if near is not None and (found := near.find(table, partition, key, asked)) is not None:
            return found
        path = f"/v1/tables/{table}/{path_part(key)}"
        pending_read = None if near is None else near.ask(table, partition, key)
        try:
            answer = yield from self._asking.steps(table, partition, path, asked.query(), wait_s=asked.wait_s)
            if near is not None and pending_read is not None:
                near.keep(pending_read, table, partition, key, asked, answer)
        finally:
            if near is not None and pending_read is not None:
                near.forget(pending_read, key)
        return {**_body(answer), **_position(answer)}

    def get_many(self, table: str, keys: Sequence[str], **options: Unpack[Options]) -> Steps[list[Json | None]]:
        """Return the rows of several keys, in the order of the keys, None for each that has no row. Raises as `get`."""
        asked = self._reading(options)
        for key in keys:
            asked_key(key)
        found: list[Json | None] = []
        for at in range(0, len(keys), KEYS_AT_ONCE):
            few = list(keys[at : at + KEYS_AT_ONCE])
            partition = yield from self._partition(table, few[0])
            found += (yield from self._ask(table, partition, f"/v1/tables/{table}/get", asked, {"keys": few}))["rows"]
        return found

    def read_together(self, keys: Sequence[tuple[str, str]], wait: float | None = None) -> Steps[list[Json | None]]:
        """Return the rows of several aggregates, each `(table, key)`, as they were at one moment after this call.

        In the order of the keys, each with its `table`; None for a key without a row. None of the rows had anything
        held at that moment, so they show all or nothing of a two-phase commit. `wait`: seconds that this may take,
        default 5. Raises Contended if there was no such moment, NoSuchConsistency if a table is not an aggregate's,
        otherwise as `get`.
        """
        if not keys:
            raise BadRequest("read_together needs at least one (table, key)")
        for _, each in keys:
            asked_key(each)
        asked = parse_read_options({} if wait is None else {"wait": str(wait)})
        (table, key), body = keys[0], {"keys": [{"table": table, "key": key} for table, key in keys]}
        partition = yield from self._partition(table, key)
        rows: list[Json | None] = (yield from self._ask(table, partition, "/v1/read", asked, body))["rows"]
        return rows

    def scan(
        self,
        table: str,
        prefix: str = "",
        limit: int | None = None,
        partition: int | None = None,
        *,
        start: str = "",
        to: str = "",
        index: str = "",
        value: str = "",
        **options: Unpack[Options],
    ) -> Stream[Json]:
        """Yield rows whose key begins with `prefix`, in key order, page by page; all of them unless `limit` is given.

        `start`, `to`: only keys from `start` on and before `to`. `index`, `value`: only rows to which that index gives
        that value. `partition`: only rows of this partition. Raises as `get`.
        """
        asked = self._reading(options)
        only = {} if partition is None else {"partition": str(partition)}
        after: str | None = ""
        while after is not None and (limit is None or limit > 0):
            query = {**wanted_rows(prefix, start, to, index, value, after, limit), **only, **asked.query()}
            path = f"/v1/tables/{table}"
            answer = yield from self._asking.steps(table, partition or 0, path, query, wait_s=asked.wait_s)
            page = _body(answer)
            yield Items[Json](page["rows"])
            after = page["next"]
            limit = None if limit is None else limit - len(page["rows"])

    def watch(self, table: str, key: str, since: str | None = None, *, wait: float | None = None) -> Stream[Json]:
        """Yield each new row of a key, for ever: `{"key", "row", "position"}` as from `get`, row None if deleted.

        Without `since`, begins with the present row. With the `position` of an event, goes on after it. With that of a
        command or read, begins with a row that contains it, for which the worker waits up to `wait` seconds. With "",
        begins with all that the row topic still holds. If a worker stops, goes on at another. Raises TableUnavailable
        after `patience_s` without a worker, UnknownTable, BadRequest for a replica, otherwise as a read.
        """
        return WatchRequest(self.router, table, key, since, wait, self._patience_s).steps()

    def history(self, aggregate: str, key: str, after: int = 0, limit: int | None = None) -> Stream[Json]:
        """Yield the events of one aggregate, in order, from the version after `after`, page by page.

        Each is `{"version", "time_ms", "command_id", "correlation_id", "event"}`, the event with its name as `type`.
        Yields all of them unless `limit` is given. Raises UnknownKey, UnknownTable, NoHistory, TableUnavailable.
        """
        at: int | None = after
        while at is not None and (limit is None or limit > 0):
            events = min(PAGE_ROWS, limit) if limit is not None else PAGE_ROWS
            page = yield from self._past(aggregate, key, "", {"after": str(at), "limit": str(events)})
            yield Items[Json](page["events"][:limit])  # an old event may have become several
            at = page["next"]
            limit = None if limit is None else limit - len(page["events"])

    def state_as_of(self, aggregate: str, key: str, as_of: int | str | datetime) -> Steps[Json]:
        """Return `{"key", "row", "version", "time_ms", …}` as it was at a version or time.

        Before the first event, that is the initial state at version 0. `as_of`: a version (a number below
        100,000,000,000), or a time: milliseconds since the epoch, ISO 8601 or a datetime, UTC unless it has a zone.
        Raises UnknownKey if the version has not been reached, InvalidMoment, HistoryIncomplete if the event log does
        not go back so far, otherwise as `history`.
        """
        text = as_of.isoformat() if isinstance(as_of, datetime) else str(as_of)
        parse_as_of(text)
        return (yield from self._past(aggregate, key, "/state", {"as_of": text}))

    def deadlines(self, aggregate: str, key: str) -> Steps[list[Json]]:
        """Return what is still due for one aggregate, in order of time, a thousand at most.

        Each is `{"kind", "name", "due_ms", "command_id", "correlation_id", "command"}`. `kind` is "deadline", or
        "scheduled" with the command's id as its name; `due_ms` is None once it has been sent. Raises UnknownTable,
        NoDeadlines, TableUnavailable.
        """
        self.router.topology.with_deadlines(aggregate)
        partition = yield from self._partition(aggregate, key)
        path = f"/v1/deadlines/{aggregate}/{path_part(key)}"
        found: list[Json] = _body((yield from self._asking.steps(aggregate, partition, path, {})))["deadlines"]
        return found

    def sagas(self, saga: str | None = None, states: Sequence[str] = IN_FLIGHT) -> Stream[Json]:
        """Yield the progress of the instances of a saga, or of all sagas, whose status is in `states`, by saga and key.

        Each is `{"saga", "key", "status", "step", "attempt", "waits_for", "reason", "blocks", "since"}`. Raises
        UnknownTable, TableUnavailable.
        """
        known = self.router.topology
        for name in sorted(known.sagas) if saga is None else [known.saga(saga).name]:
            after: str | None = ""
            while after is not None:
                query = {"state": ",".join(states), "limit": str(PAGE_ROWS)} | ({"after": after} if after else {})
                page = _body((yield from self._asking.steps(name, 0, f"/v1/sagas/{name}", query)))
                yield Items[Json](page["sagas"])
                after = page["next"]

    def saga(self, saga: str, key: str) -> Steps[Json]:
        """Return one instance as in `sagas`, with its `version` and `state`. Also raises UnknownKey."""
        self.router.topology.saga(saga)
        partition = yield from self._partition(saga, key)
        return _body((yield from self._asking.steps(saga, partition, f"/v1/sagas/{saga}/{path_part(key)}", {})))

    def positions(self, service: str) -> Steps[dict[str, Json]]:
        """Return the positions of the local tables of a service's workers, by source partition; see /v1/status."""
        found: dict[str, Json] = {}
        workers: list[str] = yield Blocking(lambda: self.router.workers(service))
        for worker in workers:
            answer: Answer | None = yield HttpCall(worker, "/v1/status", {}, TIMEOUT_S)
            if answer is not None and answer.status == 200:  # one that is gone owns nothing; the group knows it soon
                found |= answer.body.get(service, {}).get("positions", {})
        return found

    def _ask(self, table: str, partition: int, path: str, asked: ReadOptions, body: Json) -> Steps[Json]:
        return _body(
            (yield from self._asking.steps(table, partition, path, asked.query(), wait_s=asked.wait_s, body=body))
        )

    def _past(self, aggregate: str, key: str, page: str, query: dict[str, str]) -> Steps[Json]:
        self.router.topology.with_history(aggregate)
        partition = yield from self._partition(aggregate, key)
        path = f"/v1/history/{aggregate}/{path_part(key)}{page}"
        return _body((yield from self._asking.steps(aggregate, partition, path, query)))

    def _partition(self, table: str, key: str) -> Steps[int]:
        if self.router.knows(table):
            return self.router.partition(table, key)
        partition: int = yield Blocking(lambda: self.router.partition(table, key))
        return partition

    def _reading(self, options: Options) -> ReadOptions:
        """Return the options of a read. Raises BadRequest, InvalidToken."""
        given = options if "consistency" in options or "at_least" in options else {**self._otherwise, **options}
        if unknown := given.keys() - Options.__annotations__.keys():
            raise BadRequest(
                f"a read has no option {sorted(unknown)[0]!r}; it has {', '.join(Options.__annotations__)}"
            )
        return parse_read_options({name: str(value) for name, value in given.items()})


def _body(answer: Answer) -> Json:
    """Return the body of an answer. Raises the error that it carries."""
    if error := problem_of(answer):
        raise error
    body: Json = answer.body
    return body


def _position(answer: Answer) -> Json:
    return {"position": Token(answer.headers.get(POSITION, ""))}


def wanted_rows(
    prefix: str, start: str, to: str, index: str, value: str, after: str, limit: int | None
) -> dict[str, str]:
    """Return the query parameters for a page of a scan. Raises BadRequest for what is no text."""
    texts = {"prefix": prefix, "from": start, "to": to, "after": after}
    by_index = {"index": index, "value": value} if index else {}
    for name, text in (*texts.items(), *by_index.items()):
        asked_text(f"`{name}`", text)
    rows = PAGE_ROWS if limit is None else min(PAGE_ROWS, limit)
    return {**{name: text for name, text in texts.items() if text}, **by_index, "limit": str(rows)}

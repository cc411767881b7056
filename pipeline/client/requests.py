"""What clients ask of workers, question by question, without I/O; see `asking`."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict
from urllib.parse import quote

from pipeline.adapters.kafka.owners import Router
from pipeline.client.near_cache.cache import NearCache
from pipeline.client.owner_request import Answer, Blocking, HttpCall, OwnerRequest, Sleep, problem_of
from pipeline.client.wire.as_of import parse_as_of
from pipeline.client.wire.read_options import Pending, ReadOptions, parse_read_options
from pipeline.errors import BadRequest
from pipeline.model import Token

PAGE_ROWS = 1_000
POSITION = "x-pipeline-position"
Json = dict[str, Any]
JsonSteps = Generator[Sleep | Blocking | HttpCall, Any, Json]


class Options(TypedDict, total=False):
    """How to read.

    `consistency`: "owner" where nothing is said, "eventual", "linearizable" or "fresh". `at_least`: a token that the
    answer has to contain. `wait`: seconds that the worker may wait for that. `max_age`: seconds, of an eventual answer.
    `pending`: "show" where nothing is said, "hide" or "wait": what is held for transactions; see docs/transactions.md.
    """

    consistency: str
    at_least: str
    wait: float
    max_age: float
    pending: str


class Requests:
    """Makes the questions of one client. `eventual`: how it reads where nothing else is said."""

    def __init__(self, router: Router, patience_s: float, *, eventual: bool, near: NearCache | None = None) -> None:
        self.router, self._near = router, near
        self._asking = OwnerRequest(router, time.monotonic, patience_s)
        self._otherwise: Options = {"consistency": "eventual"} if eventual else {}

    def row(self, table: str, key: str, options: Options) -> JsonSteps:
        """One row, with the `position` of its table."""
        asked = self._reading(options)
        partition = yield from self._partition(table, key)
        # Which row topic a name stands for that may be switched, only workers know; and it keeps rows as they are.
        is_kept = self.router.topology.is_fixed(table) and asked.pending is Pending.SHOW
        near = self._near if is_kept else None
        if near is not None and (found := near.find(table, partition, key, asked)) is not None:
            return found
        path = f"/v1/tables/{table}/{quote(key, safe='')}"
        pending_read = None if near is None else near.ask(table, partition, key)
        try:
            answer = yield from self._asking.steps(table, partition, path, asked.query(), wait_s=asked.wait_s)
            if near is not None and pending_read is not None:
                near.keep(pending_read, table, partition, key, asked, answer)
        finally:
            if near is not None and pending_read is not None:
                near.forget(pending_read, key)
        return {**_body(answer), **_position(answer)}

    def several(self, table: str, keys: Sequence[str], options: Options) -> JsonSteps:
        """The rows of some keys, in their order."""
        asked = self._reading(options)
        partition = yield from self._partition(table, keys[0])
        path, body = f"/v1/tables/{table}/get", {"keys": keys}
        answer = yield from self._asking.steps(table, partition, path, asked.query(), wait_s=asked.wait_s, body=body)
        return {**_body(answer), **_position(answer)}

    def together(self, keys: Sequence[tuple[str, str]], wait: float | None) -> JsonSteps:
        """Rows of several aggregates as they were at one moment."""
        if not keys:
            raise BadRequest("read_together needs at least one (table, key)")
        asked = parse_read_options({} if wait is None else {"wait": str(wait)})
        (table, key), body = keys[0], {"keys": [{"table": table, "key": key} for table, key in keys]}
        partition = yield from self._partition(table, key)
        answer = yield from self._asking.steps(
            table, partition, "/v1/read", asked.query(), wait_s=asked.wait_s, body=body
        )
        return {**_body(answer), **_position(answer)}

    def page(self, table: str, partition: int | None, wanted: Mapping[str, str], options: Options) -> JsonSteps:
        """A page of rows."""
        asked = self._reading(options)
        only = {} if partition is None else {"partition": str(partition)}
        query = {**wanted, **only, **asked.query()}
        path = f"/v1/tables/{table}"
        answer = yield from self._asking.steps(table, partition or 0, path, query, wait_s=asked.wait_s)
        return {**_body(answer), **_position(answer)}

    def events(self, aggregate: str, key: str, after: int, limit: int) -> JsonSteps:
        """A page of what has happened to one aggregate."""
        return (yield from self._past(aggregate, key, "", {"after": str(after), "limit": str(limit)}))

    def state_as_of(self, aggregate: str, key: str, as_of: int | str | datetime) -> JsonSteps:
        """The state at a moment."""
        text = as_of.isoformat() if isinstance(as_of, datetime) else str(as_of)
        parse_as_of(text)
        return (yield from self._past(aggregate, key, "/state", {"as_of": text}))

    def sagas(self, saga: str, states: Sequence[str], after: str) -> JsonSteps:
        """A page of the instances of one saga."""
        query = {"state": ",".join(states), "limit": str(PAGE_ROWS)} | ({"after": after} if after else {})
        return _body((yield from self._asking.steps(saga, 0, f"/v1/sagas/{saga}", query)))

    def saga(self, saga: str, key: str) -> JsonSteps:
        """Where one instance stands."""
        self.router.topology.saga(saga)
        partition = yield from self._partition(saga, key)
        return _body((yield from self._asking.steps(saga, partition, f"/v1/sagas/{saga}/{quote(key, safe='')}", {})))

    def deadlines(self, aggregate: str, key: str) -> JsonSteps:
        """What is still to come for one aggregate."""
        self.router.topology.with_deadlines(aggregate)
        partition = yield from self._partition(aggregate, key)
        path = f"/v1/deadlines/{aggregate}/{quote(key, safe='')}"
        return _body((yield from self._asking.steps(aggregate, partition, path, {})))

    def _past(self, aggregate: str, key: str, page: str, query: dict[str, str]) -> JsonSteps:
        self.router.topology.with_history(aggregate)
        partition = yield from self._partition(aggregate, key)
        path = f"/v1/history/{aggregate}/{quote(key, safe='')}{page}"
        return _body((yield from self._asking.steps(aggregate, partition, path, query)))

    def _partition(self, table: str, key: str) -> Generator[Blocking, Any, int]:
        if self.router.knows(table):
            return self.router.partition(table, key)
        partition: int = yield Blocking(lambda: self.router.partition(table, key))
        return partition

    def _reading(self, options: Options) -> ReadOptions:
        """Raises BadRequest, InvalidToken."""
        given = options if "consistency" in options or "at_least" in options else {**self._otherwise, **options}
        if unknown := given.keys() - Options.__annotations__.keys():
            raise BadRequest(
                f"a read has no option {sorted(unknown)[0]!r}; it has {', '.join(Options.__annotations__)}"
            )
        return parse_read_options({name: str(value) for name, value in given.items()})


def _body(answer: Answer) -> Json:
    """Raises what the answer tells of."""
    if error := problem_of(answer):
        raise error
    body: Json = answer.body
    return body


def _position(answer: Answer) -> Json:
    return {"position": Token(answer.headers.get(POSITION, ""))}


def wanted_rows(
    prefix: str, start: str, to: str, index: str, value: str, after: str, limit: int | None
) -> dict[str, str]:
    """The parameters of a page of a scan."""
    texts = {"prefix": prefix, "from": start, "to": to, "after": after}
    by_index = {"index": index, "value": value} if index else {}
    rows = PAGE_ROWS if limit is None else min(PAGE_ROWS, limit)
    return {**{name: text for name, text in texts.items() if text}, **by_index, "limit": str(rows)}

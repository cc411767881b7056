"""The methods of the query clients, as steps without I/O, each declared once.

See `owner_request` for the steps, `queries` for the clients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypedDict, TypeVar, Unpack, overload

from pipeline.adapters.kafka.owners import Router
from pipeline.client.near_cache.cache import NearCache
from pipeline.client.owner_request import Answer, Items, Json, Steps, Stream
from pipeline.client.past_requests import PAGE_ROWS, PastRequests, body_of
from pipeline.client.typed.rows import Row
from pipeline.client.typed.subjects import AnyOwned, AnyTable, Owned, Subject, Table, subject
from pipeline.client.watch import WatchRequest
from pipeline.client.wire.paths import path_part
from pipeline.client.wire.read_options import Pending, ReadOptions, parse_read_options
from pipeline.errors import BadRequest
from pipeline.model import Token
from pipeline.model.records.keys import asked_key, asked_text

KEYS_AT_ONCE = 500
POSITION = "x-pipeline-position"

R = TypeVar("R")


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


class ScanOptions(Options, total=False):
    """Options of a scan: those of a read, and which rows.

    `start`, `to`: only keys from `start` on and before `to`. `index`, `value`: only rows to which that index gives that
    value.
    """

    start: str
    to: str
    index: str
    value: str


class Requests(PastRequests):
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
        super().__init__(router, patience_s, end)
        self.near, self._patience_s = near, patience_s
        self._otherwise: Options = {"consistency": "eventual"} if eventual else {}

    @overload
    def get(self, table: str, key: str, **options: Unpack[Options]) -> Steps[Json]: ...
    @overload
    def get(self, table: Table[R], key: str, **options: Unpack[Options]) -> Steps[Row[R]]: ...
    @overload
    def get(self, table: ModuleType, key: str, **options: Unpack[Options]) -> Steps[Row[Any]]: ...
    def get(self, table: AnyTable, key: str, **options: Unpack[Options]) -> Steps[Json | Row[Any]]:
        """Return the Row of a key: its `row` is an instance of the table's class.

        `table`: a Projection, Aggregate, Saga or Replica, or the module of a service with one table. By the name of a
        table, it is JSON: `{"key", "row", "position"}`, for an aggregate also with `version` and `time_ms`.

        `position`: the token of the table's position. See Options and docs/consistency.md. Raises UnknownKey,
        UnknownTable, TableUnavailable, InvalidToken, ForeignToken, NoSuchConsistency, and NotYet if the table has not
        reached the token in time; UnfitValue if the row does not fit its class.
        """
        of = subject(self.router.topology, table)
        return of.row((yield from self._row(of.name, key, self._reading(options))), {})

    def _row(self, table: str, key: str, asked: ReadOptions) -> Steps[Json]:
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
        return {**body_of(answer), **_position(answer)}

    @overload
    def get_many(self, table: str, keys: Sequence[str], **options: Unpack[Options]) -> Steps[list[Json | None]]: ...
    @overload
    def get_many(
        self, table: Table[R], keys: Sequence[str], **options: Unpack[Options]
    ) -> Steps[list[Row[R] | None]]: ...
    @overload
    def get_many(
        self, table: ModuleType, keys: Sequence[str], **options: Unpack[Options]
    ) -> Steps[list[Row[Any] | None]]: ...
    def get_many(self, table: AnyTable, keys: Sequence[str], **options: Unpack[Options]) -> Steps[list[Any]]:
        """Return the rows of several keys, in the order of the keys, None for each that has no row. Raises as `get`."""
        of, asked = subject(self.router.topology, table), self._reading(options)
        for key in keys:
            asked_key(key)
        found: list[Any] = []
        for at in range(0, len(keys), KEYS_AT_ONCE):
            few = list(keys[at : at + KEYS_AT_ONCE])
            partition = yield from self._partition(of.name, few[0])
            answer = yield from self._ask(of.name, partition, f"/v1/tables/{of.name}/get", asked, {"keys": few})
            found += _rows(of, answer)
        return found

    @overload
    def read_together(self, keys: Sequence[tuple[str, str]], wait: float | None = None) -> Steps[list[Json | None]]: ...
    @overload
    def read_together(
        self, keys: Sequence[tuple[Owned[R], str]], wait: float | None = None
    ) -> Steps[list[Row[R] | None]]: ...
    @overload
    def read_together(self, keys: Sequence[tuple[AnyOwned, str]], wait: float | None = None) -> Steps[list[Any]]: ...
    def read_together(self, keys: Sequence[tuple[AnyOwned, str]], wait: float | None = None) -> Steps[list[Any]]:
        """Return the rows of several aggregates, each `(table, key)`, as they were at one moment after this call.

        In the order of the keys, each as from `get`; None for a key without a row. None of the rows had anything
        held at that moment, so they show all or nothing of a two-phase commit. `wait`: seconds that this may take,
        default 5. Raises Contended if there was no such moment, NoSuchConsistency if a table is not an aggregate's,
        otherwise as `get`.
        """
        if not keys:
            raise BadRequest("read_together needs at least one (table, key)")
        for _, each in keys:
            asked_key(each)
        asked = parse_read_options({} if wait is None else {"wait": str(wait)})
        of = [(subject(self.router.topology, table), key) for table, key in keys]
        (first, key), body = of[0], {"keys": [{"table": table.name, "key": key} for table, key in of]}
        partition = yield from self._partition(first.name, key)
        answer = yield from self._ask(first.name, partition, "/v1/read", asked, body)
        return [
            row and table.row(row, _position(answer))
            for (table, _), row in zip(of, body_of(answer)["rows"], strict=True)
        ]

    @overload
    def scan(
        self,
        table: str,
        prefix: str = "",
        limit: int | None = None,
        partition: int | None = None,
        **options: Unpack[ScanOptions],
    ) -> Stream[Json]: ...
    @overload
    def scan(
        self,
        table: Table[R],
        prefix: str = "",
        limit: int | None = None,
        partition: int | None = None,
        **options: Unpack[ScanOptions],
    ) -> Stream[Row[R]]: ...
    @overload
    def scan(
        self,
        table: ModuleType,
        prefix: str = "",
        limit: int | None = None,
        partition: int | None = None,
        **options: Unpack[ScanOptions],
    ) -> Stream[Row[Any]]: ...
    def scan(
        self,
        table: AnyTable,
        prefix: str = "",
        limit: int | None = None,
        partition: int | None = None,
        **options: Unpack[ScanOptions],
    ) -> Stream[Json | Row[Any]]:
        """Yield rows whose key begins with `prefix`, in key order, page by page; all of them unless `limit` is given.

        `partition`: only rows of this partition. See ScanOptions. Raises as `get`.
        """
        start, to = options.pop("start", ""), options.pop("to", "")
        index, value = options.pop("index", ""), options.pop("value", "")
        of, asked = subject(self.router.topology, table), self._reading(options)
        only = {} if partition is None else {"partition": str(partition)}
        after: str | None = ""
        while after is not None and (limit is None or limit > 0):
            query = {**wanted_rows(prefix, start, to, index, value, after, limit), **only, **asked.query()}
            path = f"/v1/tables/{of.name}"
            answer = yield from self._asking.steps(of.name, partition or 0, path, query, wait_s=asked.wait_s)
            page = body_of(answer)
            yield Items(_rows(of, answer))
            after = page["next"]
            limit = None if limit is None else limit - len(page["rows"])

    @overload
    def watch(self, table: str, key: str, since: str | None = None, *, wait: float | None = None) -> Stream[Json]: ...
    @overload
    def watch(
        self, table: Table[R], key: str, since: str | None = None, *, wait: float | None = None
    ) -> Stream[Row[R | None]]: ...
    @overload
    def watch(
        self, table: ModuleType, key: str, since: str | None = None, *, wait: float | None = None
    ) -> Stream[Row[Any]]: ...
    def watch(
        self, table: AnyTable, key: str, since: str | None = None, *, wait: float | None = None
    ) -> Stream[Json | Row[Any]]:
        """Yield each new row of a key, for ever, as from `get`; its `row` is None if it is deleted.

        Without `since`, begins with the present row. With the `position` of an event, goes on after it. With that of a
        command or read, begins with a row that contains it, for which the worker waits up to `wait` seconds. With "",
        begins with all that the row topic still holds. If a worker stops, goes on at another. Raises TableUnavailable
        after `patience_s` without a worker, UnknownTable, BadRequest for a replica, otherwise as a read.
        """
        of = subject(self.router.topology, table)
        return WatchRequest(
            self.router, of.name, key, since, wait, self._patience_s, lambda row: of.row(row, {})
        ).steps()

    def _ask(self, table: str, partition: int, path: str, asked: ReadOptions, body: Json) -> Steps[Answer]:
        return self._asking.steps(table, partition, path, asked.query(), wait_s=asked.wait_s, body=body)

    def _reading(self, options: Options) -> ReadOptions:
        """Return the options of a read. Raises BadRequest, InvalidToken."""
        given = options if "consistency" in options or "at_least" in options else {**self._otherwise, **options}
        if unknown := given.keys() - Options.__annotations__.keys():
            raise BadRequest(
                f"a read has no option {sorted(unknown)[0]!r}; it has {', '.join(Options.__annotations__)}"
            )
        return parse_read_options({name: str(value) for name, value in given.items()})


def _rows(of: Subject, answer: Answer) -> list[Any]:
    """Return the rows of an answer with several; None is left. Raises the error that it carries."""
    page = body_of(answer)
    for_all = {**_position(answer), **({"age_s": page["age_s"]} if "age_s" in page else {})}
    return [row and of.row(row, for_all) for row in page["rows"]]


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

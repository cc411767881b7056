"""The endpoints of tables, and of a worker's status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.server.endpoint import At, Body, Described, Endpoint, Json, Param
from pipeline.server.endpoints.parts import NO_JSON, ONE_PARTITION, UNAVAILABLE, limit, text
from pipeline.server.schemas import subjects, tables
from pipeline.server.schemas.parts import TEXT, TOKEN, WAIT

ROWS_MAX = 10_000  # of a page
READ_ERRORS = {
    400: "a parameter cannot be used, or the table cannot give that consistency",
    409: "a replica lacks events of that key, as its evolve raised",
    422: "the token names topics that the table is not made from",
    412: "If-Match names other ETags",
    **UNAVAILABLE,
    504: "the table did not reach the position in time; `behind` lists the lagging services, and why they are held",
}


def _reading(kinds: str, what: str) -> tuple[Param, ...]:
    """Declare the parameters of ReadOptions; `reads` parses them together."""
    levels: Callable[[Any], Json] = lambda table: {  # noqa: E731
        "enum": ["owner", "eventual", "fresh" if table.is_derived else "linearizable"]
    }
    return (
        Param("pending", lambda table: {"enum": kinds.split()} if table.can_hold else None, what),
        Param("consistency", levels, "the consistency; docs/consistency.md says which to choose"),
        text("at_least", "a position token that the answer must contain", pattern=TOKEN),
        Param("wait", WAIT, "how many seconds to wait for that"),
        Param("max_age", {"type": "integer", "minimum": 0}, "the largest age of an eventual answer, in seconds"),
    )


READING = _reading("show hide", "what is held for transactions: shown as such, or left out")
READING_ONE = _reading("show hide wait", "what is held for transactions: shown, left out, or waited for")
TAGS = r'^([*]|(W/)?"[0-9a-f]{1,16}"(, (W/)?"[0-9a-f]{1,16}"){0,9})$'
KNOWN = text("If-None-Match", "ETags, or `*`; the reply is 304 if it is unchanged", "header", pattern=TAGS)
MATCH = text("If-Match", "ETags, or `*`; the reply is 412 if the present one is not among them", "header", pattern=TAGS)
CONDITIONS = (KNOWN, MATCH)
KEYS = Body("the keys")
ANY_KEY = r"{key:[\s\S]+}"  # with slashes and line breaks
WATCH = Endpoint(
    "GET",
    "/v1/tables/{table}/" + ANY_KEY + "/watch",
    params=(
        text("since", "only rows after that position", pattern=TOKEN),
        Param("wait", WAIT, "how many seconds to wait until the table is there"),
        text("Last-Event-ID", "instead of `since`, as browsers send it", "header"),
    ),
    described=Described(
        "Each new row under a key of {}, for ever",
        "watch",
        subjects.watchable,
        tables.watched,
        {
            400: "a parameter cannot be used, or the key is not UTF-8",
            404: "no such table",
            422: "the token names topics that the table is not made from",
            **UNAVAILABLE,
            504: "the table did not reach `since` in time",
        },
    ),
)
ROW, AGGREGATE = (
    Endpoint(
        "GET",
        path,
        At.KEY,
        (*CONDITIONS, *READING_ONE),
        reads=True,
        described=Described("A row of {}", operation, of, tables.row, {**READ_ERRORS, 404: "no such row"}),
    )
    for path, operation, of in (
        ("/v1/tables/{table}/" + ANY_KEY, "row", subjects.tables),
        ("/v1/aggregates/{table}/" + ANY_KEY, "aggregate", subjects.states),
    )
)
ROWS = Endpoint(
    "GET",
    "/v1/tables/{table}",
    At.ALL,
    (
        *CONDITIONS,
        text("prefix", "keys with this prefix", default="", maxLength=100),
        text("from", "keys from this one on", default="", maxLength=100),
        text("to", "keys before this one", default="", maxLength=100),
        text("after", "keys after this one: `next` of the previous page", default="", maxLength=100),
        limit(ROWS_MAX, "rows of a page"),
        Param(
            "index",
            lambda table: {"enum": list(table.indexes)} if table.indexes else None,
            "with `value`: rows to which the index gives that value",
        ),
        Param("value", lambda table: TEXT if table.indexes else None, "the value of `index`"),
        ONE_PARTITION,
        *READING,
    ),
    reads=True,
    described=Described("Rows of {}", "rows", subjects.tables, tables.rows, READ_ERRORS),
)
GET = Endpoint(
    "POST",
    "/v1/tables/{table}/get",
    At.ALL,
    READING,
    KEYS,
    reads=True,
    described=Described(
        "Rows of {} by their keys",
        "get",
        subjects.tables,
        tables.rows_of,
        {**READ_ERRORS, 404: "no such table", 415: "not JSON", 422: f"{READ_ERRORS[422]}, or the body is not JSON"},
        lambda _: tables.KEYS,
    ),
)
READ = Endpoint(
    "POST",
    "/v1/read",
    At.ALL,
    (Param("wait", WAIT, "how many seconds it may take"),),
    KEYS,
    reads=True,
    described=Described(
        "Rows of several aggregates as they were at one moment",
        "read",
        subjects.snapshots,
        tables.snapshot,
        {
            400: "the keys cannot be used, or a table is not an aggregate's",
            404: "no such table",
            **NO_JSON,
            503: "no worker can answer at present, or something is held; Retry-After says when to ask again",
            504: "a worker did not fold in time what was stored before",
        },
        tables.snapshot_keys,
    ),
)
TABLES = Endpoint("GET", "/v1/tables", described=Described("All tables", "tables", subjects.alone, tables.by_service))
STATUS = Endpoint("GET", "/v1/status", described=Described("This worker", "status", subjects.alone, tables.by_service))
OPENAPI = Endpoint("GET", "/openapi.json")
DOCS = Endpoint("GET", "/docs")
METRICS = Endpoint("GET", "/metrics")
PROJECTIONS = Endpoint("GET", "/v1/projections")

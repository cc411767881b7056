"""The endpoints of commands, history and deadlines."""

from __future__ import annotations

import re

from pipeline.client.commands import ID_BYTES_MAX
from pipeline.client.wire.as_of import parse_as_of, parse_time
from pipeline.errors import BadRequest, InvalidCommand
from pipeline.model.deadline import TIME_MS_MAX
from pipeline.server.endpoint import At, Body, Described, Endpoint, Json, Param, number
from pipeline.server.endpoints.parts import BAD_PARAMETER, LONG_MAX, UNAVAILABLE, limit
from pipeline.server.entity_tags import Tags, parse_tags
from pipeline.server.schemas import aggregates, subjects
from pipeline.server.schemas.json_schema import LONG
from pipeline.server.schemas.parts import DATE_TIME, TEXT

COMMAND_WAIT_S, COMMAND_WAIT_S_MAX = 5.0, 60.0


def _preferred_wait_s(text: str) -> float:
    """Parse Prefer: `wait=5`; `respond-async` alone means 0."""
    found = re.search(r"\bwait\s*=\s*\"?([0-9]{1,5})\"?", text)
    if found:
        return min(float(found[1]), COMMAND_WAIT_S_MAX)
    return 0.0 if re.search(r"\brespond-async\b", text) else COMMAND_WAIT_S


def _command_id(text: str) -> str:
    found = re.fullmatch(r'"([^"]+)"|([^"]+)', text.strip())
    if not found:
        raise BadRequest(f"Idempotency-Key must be text that is not empty, not {text!r:.100}")
    return found[1] or found[2]


def _issued_ms(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise BadRequest(f"X-Issued-At must be milliseconds since the epoch, not {text!r:.100}")
    return int(text)


def _versions(name: str, text: str) -> Tags:
    """Parse a condition on the aggregate's version: `"7"`, 7, W/"7", a list of these, or `*`."""
    tags = parse_tags(name, text)
    numbers = [each for each in tags.names if re.fullmatch("[0-9]{1,18}", each)]
    if tags.names and not numbers:
        raise BadRequest(f"{name} must be a version number or *, not {text!r:.100}; the ETag of an aggregate is one")
    return tags._replace(names=tuple(str(int(each)) for each in numbers))  # no aggregate is at any other tag


VERSIONS = r'^([*]|(W/)?"[0-9]{1,18}"(, (W/)?"[0-9]{1,18}"){0,9})$'
PREFER = Param(
    "Prefer",
    {**TEXT, "pattern": "^(wait=[0-9]{1,2}|respond-async)$"},
    "`wait=5`: seconds to wait for the outcome; `respond-async`: do not wait",
    _preferred_wait_s,
    COMMAND_WAIT_S,
    "header",
    is_list=True,
)
COMMAND_ID = Param(
    "Idempotency-Key",
    {**TEXT, "pattern": "^[A-Za-z0-9_-]+$", "maxLength": ID_BYTES_MAX},
    "the command's id; a request sent again has the same id",
    _command_id,
    place="header",
)
ISSUED = Param(
    "X-Issued-At",
    {**TEXT, "pattern": "^[0-9]{13}$"},
    "when the request was first sent, in milliseconds since the epoch",
    _issued_ms,
    place="header",
)
EXPECTED = Param(
    "If-Match",
    {**TEXT, "pattern": VERSIONS},
    "the version that the aggregate must be at, or one of several; `*`: any, so it must have events",
    lambda text: _versions("If-Match", text),
    place="header",
    is_list=True,
)
UNEXPECTED = Param(
    "If-None-Match",
    {**TEXT, "pattern": VERSIONS},
    "the versions that the aggregate must not be at; `*`: any, so it must have no events yet",
    lambda text: _versions("If-None-Match", text),
    place="header",
    is_list=True,
)
CORRELATION = Param("X-Correlation-Id", place="header", is_hidden=True)
UNREAD = "the version that If-Match or If-None-Match asks for could not be read in time"
SENT = (PREFER, COMMAND_ID, ISSUED, EXPECTED, UNEXPECTED, CORRELATION)
AT_TIME: Json = {"oneOf": [{"type": "integer", "minimum": 10**11, "maximum": TIME_MS_MAX}, DATE_TIME]}
AT = Param(
    "at",
    lambda aggregate: AT_TIME if aggregate.deadlines else None,
    "When to decide the command: milliseconds since the epoch, or ISO 8601, in UTC unless it has a "
    "zone. At once if the time has passed",
    parse_time,
)
SEND = Endpoint(
    "POST",
    "/v1/commands/{aggregate}/{key:[^/]+}",
    params=(AT, *SENT),
    body=Body("the command"),
    bad_path=InvalidCommand,
    described=Described(
        "Send a command to {}",
        "send",
        subjects.addressed,
        aggregates.sent,
        {
            400: "a header or parameter cannot be used",
            409: "rejected: by the aggregate, for another version, or because the id was used for another command",
            413: "the body is too large",
            415: "the body is not application/json",
            422: "the command does not fit its schema",
            **UNAVAILABLE,
            504: UNREAD,
        },
        aggregates.command,
    ),
)
OUTCOME = Endpoint(
    "GET",
    "/v1/commands/{aggregate}/{key:[^/]+}/{id:[^/]+}",
    At.KEY,
    bad_path=InvalidCommand,
    described=Described(
        "The outcome of a command to {}",
        "outcome",
        subjects.addressed,
        aggregates.outcome,
        {404: "the command is unknown, or not known yet", 422: "the key is not UTF-8", **UNAVAILABLE},
    ),
)
PAST_ERRORS = {
    **BAD_PARAMETER,
    404: "the key has no events, or not so many yet",
    410: "the event log no longer goes back so far",
    503: "no worker can answer at present, or the history is being built; Retry-After says when to ask again",
}
HISTORY = Endpoint(
    "GET",
    "/v1/history/{aggregate}/{key:[^/]+}",
    At.KEY,
    (number("after", 0, LONG_MAX, 0), limit(1_000)),
    described=Described("The events of one of {}", "history", subjects.with_history, aggregates.history, PAST_ERRORS),
)
AS_OF = Param(
    "as_of",
    {"oneOf": [{**LONG, "minimum": 0}, DATE_TIME]},
    "A version, as a number below 100,000,000,000; or a time: any other number is milliseconds since the epoch, "
    "anything else ISO 8601, in UTC unless it has a zone. Default: now",
    parse_as_of,
    (None, None),
)
STATE = Endpoint(
    "GET",
    "/v1/history/{aggregate}/{key:[^/]+}/state",
    At.KEY,
    (AS_OF,),
    described=Described("A past state of one of {}", "state", subjects.with_history, aggregates.state, PAST_ERRORS),
)
DEADLINES = Endpoint(
    "GET",
    "/v1/deadlines/{aggregate}/{key:[^/]+}",
    At.KEY,
    described=Described(
        "What is still due for one of {}",
        "deadlines",
        subjects.with_deadlines,
        aggregates.deadlines,
        {400: "the key is not UTF-8", **UNAVAILABLE},
    ),
)

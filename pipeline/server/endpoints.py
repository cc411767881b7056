"""The HTTP surface: one declaration an endpoint. What is declared here is routed, parsed and described by it."""

from __future__ import annotations

import re

from pipeline.client.wire.as_of import parse_as_of, parse_time
from pipeline.errors import BadRequest, InvalidCommand
from pipeline.model.saga.saga import ACTIONS, IN_FLIGHT, STATUSES
from pipeline.server.endpoint import At, Body, Endpoint, Param, number

LONG_MAX, INT_MAX = 2**63 - 1, 2**31 - 1
ROWS_MAX = 10_000  # of a page
COMMAND_WAIT_S, COMMAND_WAIT_S_MAX = 5.0, 60.0


def _preferred_wait_s(text: str) -> float:
    """`wait=5`; `respond-async` alone waits for nothing."""
    found = re.search(r"\bwait\s*=\s*\"?([0-9]{1,5})\"?", text)
    if found:
        return min(float(found[1]), COMMAND_WAIT_S_MAX)
    return 0.0 if re.search(r"\brespond-async\b", text) else COMMAND_WAIT_S


def _command_id(text: str) -> str:
    found = re.fullmatch(r'"([^"]+)"|([^"]+)', text.strip())
    if not found:
        raise BadRequest(f"Idempotency-Key must be a text that is not empty, not {text!r:.100}")
    return found[1] or found[2]


def _issued_ms(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise BadRequest(f"X-Issued-At must be milliseconds since the epoch, not {text!r:.100}")
    return int(text)


def _expected_version(text: str) -> int:
    """`"7"`, or 7."""
    found = re.fullmatch(r'\s*"?([0-9]{1,18})"?\s*', text)
    if not found:
        raise BadRequest(f"If-Match must be a version, as a number, not {text!r:.100}")
    return int(found[1])


def _states(text: str) -> list[str]:
    states = text.split(",")
    if unknown := [state for state in states if state not in STATUSES]:
        raise BadRequest(f"state={unknown[0]!r:.100} is not known; there are {', '.join(STATUSES)}")
    return states


def _limit(most: int, default: int = 100) -> Param:
    return number("limit", 1, most, default, "at most so many")


# --- tables -----------------------------------------------------------------------------------------------------------

TABLES = Endpoint("GET", "/v1/tables")
STATUS = Endpoint("GET", "/v1/status")
OPENAPI = Endpoint("GET", "/openapi.json")
METRICS = Endpoint("GET", "/metrics")
PROJECTIONS = Endpoint("GET", "/v1/projections")
KEYS = Body("the keys")
RANGE = tuple(Param(name, default="") for name in ("prefix", "after", "from", "to"))
INDEX = Param("index"), Param("value")
ONE_PARTITION = number("partition", 0, INT_MAX, is_hidden=True)
WATCH = Endpoint(
    "GET",
    "/v1/tables/{table}/{key:.+}/watch",
    params=(Param("wait"), Param("since"), Param("Last-Event-ID", place="header")),
)
ROW = Endpoint("GET", "/v1/tables/{table}/{key:.+}", At.KEY, reads=True)
AGGREGATE = Endpoint("GET", "/v1/aggregates/{table}/{key:.+}", At.KEY, reads=True)
ROWS = Endpoint("GET", "/v1/tables/{table}", At.ALL, (*RANGE, _limit(ROWS_MAX), *INDEX, ONE_PARTITION), reads=True)
GET = Endpoint("POST", "/v1/tables/{table}/get", At.ALL, body=KEYS, reads=True)
READ = Endpoint("POST", "/v1/read", At.ALL, body=KEYS, reads=True)

# --- aggregates -------------------------------------------------------------------------------------------------------

PREFER = Param("Prefer", parse=_preferred_wait_s, default=COMMAND_WAIT_S, place="header", is_list=True)
SENT = (
    PREFER,
    Param("Idempotency-Key", parse=_command_id, place="header"),
    Param("X-Correlation-Id", place="header", is_hidden=True),
    Param("X-Issued-At", parse=_issued_ms, place="header"),
    Param("If-Match", parse=_expected_version, place="header"),
)
SEND = Endpoint(
    "POST",
    "/v1/commands/{aggregate}/{key:[^/]+}",
    params=(*SENT, Param("at", parse=parse_time)),
    body=Body("the command"),
    bad_path=InvalidCommand,
)
OUTCOME = Endpoint("GET", "/v1/commands/{aggregate}/{key:[^/]+}/{id:[^/]+}", At.KEY, bad_path=InvalidCommand)
HISTORY = Endpoint("GET", "/v1/history/{aggregate}/{key}", At.KEY, (number("after", 0, LONG_MAX, 0), _limit(1_000)))
STATE = Endpoint(
    "GET", "/v1/history/{aggregate}/{key}/state", At.KEY, (Param("as_of", parse=parse_as_of, default=(None, None)),)
)
DEADLINES = Endpoint("GET", "/v1/deadlines/{aggregate}/{key:[^/]+}", At.KEY)

# --- sagas ------------------------------------------------------------------------------------------------------------

LISTED = Param("state", parse=_states, default=list(IN_FLIGHT), is_list=True), _limit(1_000), Param("after", default="")
SAGAS = Endpoint("GET", "/v1/sagas", At.ALL, LISTED)
SAGAS_OF = Endpoint("GET", "/v1/sagas/{saga}", At.ALL, (*LISTED, ONE_PARTITION))
SAGA = Endpoint("GET", "/v1/sagas/{saga}/{key:[^/]+}", At.KEY)
INTERVENE = {
    action: Endpoint("POST", f"/v1/sagas/{{saga}}/{{key:[^/]+}}/{action}", params=SENT, body=Body("`by` and `why`"))
    for action in ACTIONS
}

# --- parked records ---------------------------------------------------------------------------------------------------

PARKED_PATH = "/v1/parked/{service}/{topic}/{partition}"
SOURCE_PARTITION = number("partition", 0, INT_MAX, place="path")
ALL_PARKED = Endpoint("GET", "/v1/parked", At.ALL, (_limit(1_000), Param("after", default=""), Param("service")))
PARKED = Endpoint(
    "GET",
    PARKED_PATH,
    At.PARTITION,
    (SOURCE_PARTITION, _limit(1_000), Param("key"), Param("key_base64"), Param("after")),
)
REDRIVE, DISCARD = (
    Endpoint(
        "POST", f"{PARKED_PATH}/{action}", At.PARTITION, (SOURCE_PARTITION,), Body("what to do", takes_any_type=True)
    )
    for action in ("redrive", "discard")
)

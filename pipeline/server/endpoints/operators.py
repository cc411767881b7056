"""The endpoints of sagas and parked records: their progress, and the operators' actions."""

from __future__ import annotations

from pipeline.errors import BadRequest
from pipeline.model.saga.saga import ACTIONS, IN_FLIGHT, STATUSES
from pipeline.server.endpoint import At, Body, Described, Endpoint, Param, number
from pipeline.server.endpoints.aggregates import SENT, UNREAD
from pipeline.server.endpoints.parts import (
    AFTER,
    BAD_PARAMETER,
    INT_MAX,
    NO_JSON,
    ONE_PARTITION,
    UNAVAILABLE,
    limit,
    text,
)
from pipeline.server.schemas import aggregates, subjects, tables
from pipeline.server.schemas.parts import COUNT


def _states(text: str) -> list[str]:
    states = text.split(",")
    if unknown := [state for state in states if state not in STATUSES]:
        raise BadRequest(f"state={unknown[0]!r:.100} is not known; there are {', '.join(STATUSES)}")
    return states


LISTED = (
    Param(
        "state",
        {"enum": list(STATUSES)},
        "one or more, separated by commas; default: all that are in flight",
        _states,
        list(IN_FLIGHT),
        is_list=True,
    ),
    limit(1_000),
    AFTER,
)
SAGAS, SAGAS_OF = (
    Endpoint(
        "GET",
        path,
        At.ALL,
        params,
        described=Described(
            "The progress of the instances of {}", "sagas", of, aggregates.instances, {**BAD_PARAMETER, **UNAVAILABLE}
        ),
    )
    for path, params, of in (
        ("/v1/sagas", LISTED, subjects.any_saga),
        ("/v1/sagas/{saga}", (*LISTED, ONE_PARTITION), subjects.sagas),
    )
)
SAGA = Endpoint(
    "GET",
    "/v1/sagas/{saga}/{key:[^/]+}",
    At.KEY,
    described=Described(
        "The progress of an instance of {}",
        "saga",
        subjects.sagas,
        aggregates.instance,
        {400: "the key is not UTF-8", 404: "no instance of that key has begun", **UNAVAILABLE},
    ),
)
INTERVENE = {
    action: Endpoint(
        "POST",
        f"/v1/sagas/{{saga}}/{{key:[^/]+}}/{action}",
        params=SENT,
        body=Body("`by` and `why`"),
        described=Described(
            f"{action}: an operator's request to an instance of {{}}",
            action,
            subjects.knowing(action),
            aggregates.intervened,
            {
                400: "the body or a header cannot be used, or the key is not UTF-8",
                409: "refused: `reason` says why",
                413: "the body is too large",
                **NO_JSON,
                **UNAVAILABLE,
                504: UNREAD,
            },
            lambda _: aggregates.INTERVENTION,
        ),
    )
    for action in ACTIONS
}

# --- parked records ---------------------------------------------------------------------------------------------------

PARKED_PATH = "/v1/parked/{service}/{topic}/{partition}"
PARKED_ERRORS = {
    400: "the request cannot be used",
    404: "no record is parked there",
    422: "the body is not JSON",
    **UNAVAILABLE,
}
PAUSE, RESUME = (
    Endpoint(
        "POST",
        f"/v1/services/{{service}}/{action}",
        body=Body("what to do", takes_any_type=True),
        described=Described(
            f"{action} the service {{}}{how}",
            action,
            subjects.services,
            answers,
            {400: "the request cannot be used", 404: "no such service", 422: "the body is not JSON", **UNAVAILABLE},
            lambda _: tables.BY_WHOM,
        ),
    )
    for action, how, answers in (
        ("pause", ": it decides no commands until it is resumed, whatever is restarted", tables.paused),
        ("resume", ", if it is paused, or too much of it has raised, and what its replicas hold", tables.resumed),
    )
)
SOURCE_PARTITION = number("partition", 0, INT_MAX, place="path")
ALL_PARKED = Endpoint(
    "GET",
    "/v1/parked",
    At.ALL,
    (limit(1_000), AFTER, Param("service", is_hidden=True)),
    described=Described(
        "The keys that have parked records, each with its first",
        "parked",
        subjects.alone,
        tables.all_parked,
        PARKED_ERRORS,
    ),
)
PARKED = Endpoint(
    "GET",
    PARKED_PATH,
    At.PARTITION,
    (
        SOURCE_PARTITION,
        limit(1_000),
        text("key", "whose records to show; `key_base64` if it is not text", minLength=1),
        Param("key_base64", is_hidden=True),
        Param("after", is_hidden=True),
    ),
    described=Described(
        "The parked records of a key of {}; without a key, the keys",
        "parked",
        subjects.sources,
        tables.parked,
        PARKED_ERRORS,
    ),
)
REDRIVE, DISCARD = (
    Endpoint(
        "POST",
        f"{PARKED_PATH}/{action}",
        At.PARTITION,
        (SOURCE_PARTITION,),
        Body("what to do", takes_any_type=True),
        described=Described(
            f"{action} the parked records of a key of {{}}: {how}",
            action,
            subjects.sources,
            tables.acted,
            PARKED_ERRORS,
            body,
        ),
    )
    for action, how, body in (
        ("redrive", "folds them in order, until one raises again", lambda _: tables.order(tables.UP_TO)),
        (
            "discard",
            "removes the first, at `offset`; with `all`: true up to `limit` of them",
            lambda _: tables.order({"offset": COUNT, **tables.UP_TO}),
        ),
    )
)

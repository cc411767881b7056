"""Replies that workers and web frameworks give alike: to errors, and for outcomes of commands."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pipeline.client.commands import outcome_json
from pipeline.client.wire.outcome import Outcome, explained
from pipeline.client.wire.paths import path_part
from pipeline.errors import NoReply, NotYet, PipelineError
from pipeline.model import Rejected
from pipeline.server.endpoint import Reply, problem

RETRY = {"Retry-After": "1"}
HEADERS: dict[int, dict[str, str]] = {
    HTTPStatus.SERVICE_UNAVAILABLE: RETRY,
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'Bearer realm="kafka-pipeline"'},
}


def error_reply(error: PipelineError) -> Reply:
    """Return the problem document of an error."""
    status = error.http_status
    headers = HEADERS.get(status, {})
    more = {"behind": error.behind} if isinstance(error, NotYet) else {}
    return problem(status, str(error), type(error).__name__, headers, **more)


def outcome_reply(outcome: Outcome) -> Reply:
    """Return the outcome of a command; a problem document if it was rejected."""
    if not isinstance(outcome, Rejected):
        return Reply(200, outcome_json(outcome), {"ETag": f'"{outcome.version}"'})
    detail = explained(outcome) or f"the aggregate rejects the command: {outcome.reason}"
    return problem(409, detail, "Rejected", **outcome_json(outcome))


def unknown_reply(error: NoReply, place: str = "", **more: Any) -> Reply:
    """Return what is known of a command whose outcome is not. `place`: where to ask for it, without the id."""
    known = {"command_id": error.command_id, "position": error.stored, **more}
    known |= {"issued_ms": error.issued_ms, "detail": str(error)}
    known |= {name: why for name in ("parked", "held") if (why := getattr(error, name)) is not None}
    return Reply(202, known, location(place, error.command_id))


def location(place: str, command_id: str) -> dict[str, str]:
    """Return the header that says where to ask for the outcome."""
    return {"Location": f"{place}/{path_part(command_id)}"} if place else {}

"""The endpoints that say whether a worker lives, and whether it is ready. They take no identity."""

from __future__ import annotations

from typing import Any

from pipeline.server.endpoint import Described, Endpoint, Json
from pipeline.server.schemas import subjects
from pipeline.server.schemas.parts import COUNT, TEXT, fields, in_json, several

WHYS = several({"type": "object", "properties": {"partition": TEXT, "reason": TEXT, "detail": TEXT}})
BOOL: Json = {"type": "boolean"}


def _answers(yes: str, no: str, whole: Json, service: Json) -> Json:
    schema = fields({**whole, "services": {"type": "object", "additionalProperties": service}})
    return {"200": in_json(yes, schema), "503": in_json(no, schema)}


def _lives(_: Any) -> Json:
    step = {"type": "number", "minimum": 0, "description": "seconds since the lane's last step ended"}
    service = {"type": "object", "properties": {"live": BOOL, "last_step_s": step, "why": WHYS}}
    return _answers("every lane turns", "a lane stands; start the worker again", {"live": BOOL}, service)


def _ready(_: Any) -> Json:
    counts = {"assigned": COUNT, "restoring": COUNT, "parked_keys": COUNT}
    service = fields({"ready": BOOL, **counts, "why": WHYS})
    whole = {"ready": BOOL, "why": WHYS}
    return _answers("all services are restored, and fold what comes", "`why` says what is not so", whole, service)


LIVEZ = Endpoint("GET", "/livez", described=Described("Whether the worker lives", "livez", subjects.alone, _lives))
READYZ = Endpoint(
    "GET", "/readyz", described=Described("Whether the worker is ready", "readyz", subjects.alone, _ready)
)
OPEN = (LIVEZ, READYZ)  # without an access token: what watches a process has no identity

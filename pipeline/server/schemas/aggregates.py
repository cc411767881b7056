"""Schemas of commands, outcomes, history and deadlines of an aggregate, and of a saga's instances."""

from __future__ import annotations

from typing import Any

from pipeline.adapters.json.form import TYPE, name_of
from pipeline.model import Aggregate, Saga
from pipeline.model.fields import alternatives
from pipeline.model.saga.saga import STATUSES
from pipeline.server.schemas.components import Named
from pipeline.server.schemas.json_schema import LONG, Json, Shape, json_schema
from pipeline.server.schemas.parts import MAYBE, TEXT, TEXTS, VERSION, WHO, Schema, fields, in_json, only, several, text

DETAILS = {"type": "object", "additionalProperties": TEXT}
REJECTED = Named("Rejected", fields({"outcome": {"const": "rejected"}, "reason": TEXT, "details": DETAILS}))
PARKED = Named("Parked", fields({"outcome": {"const": "parked"}, "command_id": TEXT, "cause": TEXT}))
PENDING = Named(
    "Pending",
    {
        "type": "object",
        "properties": {
            "command_id": TEXT,
            "position": MAYBE,
            "due_ms": {"type": ["integer", "null"], "description": "when it is decided; null: as soon as possible"},
            "parked": text("why it is parked, if it is: it is decided once it is redriven"),
            "held": text("why the service decides nothing at present, if it is held, and how to have it go on"),
            "detail": TEXT,
        },
        "required": ["command_id"],
    },
)
INSTANCE: Json = {
    "saga": TEXT,
    "key": TEXT,
    "status": {"enum": list(STATUSES)},
    "step": text("the step under way; empty if there is none"),
    "attempt": {"type": "integer"},
    "waits_for": {**TEXTS, "description": "requests to others without a reply so far"},
    "reason": text("why it is undone or retried"),
    "blocks": {**TEXTS, "description": "what is locked for others meanwhile"},
    "since": text("when its last event happened"),
}
INTERVENTION = only({"by": WHO, "why": WHO})


def _of(name: str, hint: Any) -> Named:
    """Return the schema of a message that says which of these classes it is of."""
    classes = {name_of(cls): Shape(cls, says_its_name=True) for cls in alternatives(hint)}
    which: Json = {"propertyName": TYPE, "mapping": classes}
    return Named(name, {"oneOf": [{"$ref": shape} for shape in classes.values()], "discriminator": which})


def command(of: Aggregate[Any, Any, Any]) -> Named:
    """Return the schema of a command."""
    return _of(f"{of.name}_command", of.command)


def _event(of: Aggregate[Any, Any, Any]) -> Named:
    return _of(f"{of.name}_event", of.event)


def _accepted(of: Aggregate[Any, Any, Any]) -> Named:
    told = {
        "outcome": {"const": "accepted"},
        "version": VERSION,
        "events": several(_event(of)),
        "position": text("token of the command's position, such as users.command/3@77: for `at_least` of reads"),
        "complete": {"type": "boolean", "description": "false if the events were too large for this reply"},
    }
    return Named(f"{of.name}_accepted", fields(told))


def sent(of: Aggregate[Any, Any, Any]) -> Json:
    """Return the responses to a command."""
    return {
        "200": in_json("decided", _accepted(of)),
        "202": in_json("stored; not decided yet, or not within the wait, or scheduled", PENDING),
    }


def outcome(of: Aggregate[Any, Any, Any]) -> Json:
    """Return the responses with the outcome of a command."""
    waits = "not decided yet: scheduled, or parked until it is redriven"
    return {
        "200": in_json("decided", {"oneOf": [_accepted(of), REJECTED]}),
        "202": in_json(waits, {"anyOf": [PARKED, PENDING]}),
    }


def _past(of: Aggregate[Any, Any, Any], told: Json) -> Json:
    reached: Json = {
        "last": {**LONG, "description": "the last version that the history holds"},
        "current": {**LONG, "description": "the table's version when it was asked"},
    }
    found = {"aggregate": {"const": of.name}, "key": TEXT, **told, **reached}
    return {"200": in_json("as far as the history goes", fields(found))}


def history(of: Aggregate[Any, Any, Any]) -> Json:
    """Return the responses with events, page by page."""
    read: Json = {**MAYBE, "description": "token of the copies that the decision has read"}
    told: Schema = _event(of)
    if of.upcasts:
        told = {"oneOf": [told, {"type": "null", "description": "an old event that means nothing any more"}]}
    event = {"version": LONG, "time_ms": LONG, "command_id": TEXT, "correlation_id": TEXT, "event": told}
    page: Json = {
        "events": several(fields(event | ({"read": read} if of.reads else {}))),
        "next": {"type": ["integer", "null"], "description": "`after` of the next page; null if there is none"},
        "first": {**LONG, "description": "the first version that the event log holds; 1 unless its beginning is gone"},
    }
    return _past(of, page)


def state(of: Aggregate[Any, Any, Any]) -> Json:
    """Return the responses with an earlier state."""
    time_ms: Json = {"type": ["integer", "null"], "description": "the time of its last event; null before the first"}
    return _past(of, {"row": json_schema(type(of.initial)), "version": LONG, "time_ms": time_ms})


def deadlines(of: Aggregate[Any, Any, Any]) -> Json:
    """Return the responses with what is still due."""
    due: Json = {"type": ["integer", "null"], "description": "null: sent, about to be decided"}
    told: Json = {
        "kind": {"enum": ["deadline", "scheduled"]},
        "name": text("the deadline's name, or the scheduled command's id"),
        "due_ms": due,
        "command_id": TEXT,
        "correlation_id": TEXT,
        "command": command(of),
    }
    found: Json = {"aggregate": {"const": of.name}, "key": TEXT}
    found |= {"deadlines": several(fields(told)), "complete": {"type": "boolean"}}
    return {"200": in_json("in order of time, a thousand at most", fields(found))}


def instances(_: Saga[Any] | None) -> Json:
    """Return the responses with the progress of instances."""
    page = {"sagas": several(Named("Standing", fields(INSTANCE))), "next": MAYBE, "unavailable": TEXTS}
    return {"200": in_json("by saga and key", fields(page))}


def instance(of: Saga[Any]) -> Json:
    """Return the responses with the progress of one instance."""
    told = Named(f"{of.name}_instance", fields({**INSTANCE, "version": LONG, "state": json_schema(type(of.initial))}))
    return {"200": in_json("with its state", told)}


def intervened(_: Saga[Any]) -> Json:
    """Return the responses to an intervention."""
    done = fields({"outcome": {"const": "accepted"}, "version": LONG, "events": several({})})
    return {
        "200": in_json("done; the instance's event log contains it", done),
        "202": in_json("stored; not decided within the wait", fields({"command_id": TEXT})),
    }

"""Explains which field of a value does not fit its schema, and what it should be."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pipeline.adapters.avro.binding import Names, alternatives, field_hints, resolve
from pipeline.adapters.avro.registry import Schema

BITS = {"int": 32, "long": 64}


def misfit(value: Any, hint: Any, schema: Schema, names: Names, body: object = None, where: str = "") -> str | None:
    """Return the first place where `value` is not of its class, or out of the schema's range; None if it all fits.

    `hint`: the declared class or union; `body`: the type of an envelope's body.
    """
    options, schema = alternatives(hint), resolve(schema, names)
    cls = type(value)
    if cls in options and hasattr(cls, "__annotations__"):
        record = _branch(schema, names, cls.__name__)
        types = {field["name"]: field["type"] for field in record["fields"]} if record else {}
        for name, inner in field_hints(cls, body).items():
            place = f"{where}.{name}" if where else f"{cls.__name__}.{name}"
            if found := misfit(getattr(value, name), inner, types.get(name, "null"), names, None, place):
                return found
        return None
    for option in options:
        origin, items = get_origin(option), get_args(option)
        if origin is tuple and isinstance(value, tuple):
            item = (_kind(schema, names, "array") or {}).get("items", "null")
            each = (misfit(v, items[0], item, names, None, f"{where}[{n}]") for n, v in enumerate(value))
            return next(filter(None, each), None)
        if origin is dict and isinstance(value, dict):
            item = (_kind(schema, names, "map") or {}).get("values", "null")
            each = (misfit(v, items[1], item, names, None, f"{where}[{k!r}]") for k, v in value.items())
            return next(filter(None, each), None)
        if option is cls:
            return _out_of_range(value, schema, names, where)
    wanted = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    return f"{where or 'value'} must be {wanted}, not {cls.__name__} {value!r:.100}"


def _out_of_range(value: Any, schema: Schema, names: Names, where: str) -> str | None:
    if type(value) is int:
        kinds = [BITS[kind] for kind in _kinds(schema, names) if kind in BITS]
        if kinds and not -(2 ** (max(kinds) - 1)) <= value < 2 ** (max(kinds) - 1):
            return f"{where} must fit {max(kinds)} bits, which {value} does not"
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"{where} must be text that UTF-8 can hold: {error}"
    return None


def _kinds(schema: Schema, names: Names) -> list[Any]:
    """Return the resolved branches of a union; any other schema is its only branch."""
    return [resolve(branch, names) for branch in schema] if isinstance(schema, list) else [schema]


def _kind(schema: Schema, names: Names, kind: str) -> dict[str, Any] | None:
    return next((s for s in _kinds(schema, names) if isinstance(s, dict) and s["type"] == kind), None)


def _branch(schema: Schema, names: Names, name: str) -> dict[str, Any] | None:
    """Return the record of that name, or the only one there is: an envelope's class has another name."""
    records = [s for s in _kinds(schema, names) if isinstance(s, dict) and s["type"] == "record"]
    return next((record for record in records if record["name"] == name), records[0] if len(records) == 1 else None)

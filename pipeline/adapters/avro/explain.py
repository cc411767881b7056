"""Explains which field of a value does not fit its schema, and what it should be."""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from typing import Any, Literal, get_args, get_origin

from pipeline.adapters.avro.binding import Names, field_hints, is_message, resolve
from pipeline.adapters.avro.conversions import LIST, Converted
from pipeline.adapters.avro.registry import Schema
from pipeline.model.fields import alternatives

BITS = {"int": 32, "long": 64}
SHOWN_SYMBOLS = 20  # of an enum
PACKED = {"float": struct.Struct("<f"), "double": struct.Struct("<d")}


def explanation(value: Any, hint: Any, schema: Schema, names: Names, error: Exception, body: object = None) -> str:
    """Return why a value cannot be written: the first field that does not fit, or what was raised."""
    with suppress(RecursionError):
        if found := misfit(value, hint, schema, names, body):
            return found
    return f"{type(value).__name__} cannot be written: {error}"


def misfit(value: Any, hint: Any, schema: Schema, names: Names, body: object = None, where: str = "") -> str | None:
    """Return the first place where `value` is not of its class, or out of the schema's range; None if it all fits.

    `hint`: the declared class or union; `schema`: as it is bound to it; `body`: the type of an envelope's body.
    """
    options, schema = alternatives(hint), resolve(schema, names)
    cls = type(value)
    converted = [kind for kind in _kinds(schema, names) if isinstance(kind, Converted) and kind.conversion.type is cls]
    if converted:
        return _inconvertible(value, converted[0], names, where or "value")
    if cls in options and is_message(cls):
        record = _branch(schema, names, cls.__name__)
        types = {field["name"]: field["type"] for field in record["fields"]} if record else {}
        for name, inner in field_hints(cls, body).items():
            place, given = f"{where}.{name}" if where else f"{cls.__name__}.{name}", getattr(value, name)
            if body is not None and name == "body" and type(given) in alternatives(inner):
                place = ""  # what is around a message is the engine's: its fields are named by its own class
            if found := misfit(given, inner, types.get(name, "null"), names, None, place):
                return found
        return None
    for option in options:
        origin, items = get_origin(option), get_args(option)
        if origin in (tuple, list) and isinstance(value, origin):
            item = (_kind(schema, names, "array") or {}).get("items", "null")
            each = (misfit(v, items[0], item, names, None, f"{where}[{n}]") for n, v in enumerate(value))
            return next(filter(None, each), None)
        if origin is dict and isinstance(value, dict):
            item = (_kind(schema, names, "map") or {}).get("values", "null")
            for key in value:
                if found := _unfit_key(key, where):
                    return found
            each = (misfit(v, items[1], item, names, None, f"{where}[{k!r}]") for k, v in value.items())
            return next(filter(None, each), None)
        if option is cls or (option is float and (cls is int or (len(options) == 1 and hasattr(cls, "__float__")))):
            return _out_of_range(value, schema, names, where or "value")
    wanted = " or ".join(map(_name, options))
    return f"{where or 'value'} must be {wanted}, not {cls.__name__} {_shown(value)}"


def _name(option: Any) -> str:
    if get_origin(option) is Literal:
        return " or ".join(map(repr, get_args(option)))
    return getattr(option, "__name__", str(option))


def _inconvertible(value: Any, converted: Converted, names: Names, where: str) -> str | None:
    try:
        made = converted.conversion.to_avro(value)
    except Exception as error:  # a timezone may raise anything
        return f"{where} {error}"
    return _out_of_range(made, converted.inner, names, where)


def _unfit_key(key: Any, where: str) -> str | None:
    if type(key) is not str:
        return f"{where} must have keys of type str, not {type(key).__name__} {_shown(key)}"
    why = _no_text(key)
    return f"{where} must have keys that UTF-8 can hold: {why}" if why else None


def _out_of_range(value: Any, schema: Schema, names: Names, where: str) -> str | None:
    """Return why a value of the right class does not fit its schema (range, enum symbol, length); None if it does."""
    kinds = _kinds(schema, names)
    bits = [BITS[kind] for kind in kinds if isinstance(kind, str) and kind in BITS]
    if type(value) is int and bits:
        if not -(2 ** (max(bits) - 1)) <= value < 2 ** (max(bits) - 1):
            return f"{where} must fit {max(bits)} bits, which {_shown(value)} does not"
    elif hasattr(value, "__float__") and (packed := [kind for kind in PACKED if kind in kinds]):
        return _not_a_number(value, packed[-1], where)
    if type(value) is str:
        if why := _no_text(value):
            return f"{where} must be text that UTF-8 can hold: {why}"
        enums = [kind for kind in kinds if isinstance(kind, dict) and kind["type"] == "enum"]
        if enums and "string" not in kinds and value not in (symbols := [s for e in enums for s in e["symbols"]]):
            others = f" or another of {len(symbols)} symbols" if len(symbols) > SHOWN_SYMBOLS else ""
            return f"{where} must be {' or '.join(symbols[:SHOWN_SYMBOLS])}{others}, not {value!r:.100}"
    if type(value) is bytes:
        sizes = [kind["size"] for kind in kinds if isinstance(kind, dict) and kind["type"] == "fixed"]
        if sizes and "bytes" not in kinds and len(value) not in sizes:
            return f"{where} must have {' or '.join(map(str, sizes))} bytes, not {len(value)}"
    return None


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.100}"
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "one that is too long to show"


def _no_text(value: str) -> str | None:
    """Return why UTF-8 cannot hold a text; None if it can."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return str(error)
    return None


def _not_a_number(value: Any, kind: str, where: str) -> str | None:
    """Why a float of that kind cannot hold a value; None if it can."""
    try:
        number = float(value)
        PACKED[kind].pack(number)
    except (OverflowError, ValueError):
        size = {"float": "32 bits, whose largest is 3.4028235e+38", "double": "64 bits"}[kind]
        return f"{where} must fit a float of {size}, which {_shown(value)} does not"
    return None if math.isfinite(number) else f"{where} must be a finite number, not {number}"


def _kinds(schema: Schema, names: Names) -> list[Any]:
    """Return the resolved branches of a union; any other schema is its only branch. A list's are those of a tuple."""
    kinds = [resolve(branch, names) for branch in schema] if isinstance(schema, list) else [schema]
    return [kind.inner if isinstance(kind, Converted) and kind.conversion is LIST else kind for kind in kinds]


def _kind(schema: Schema, names: Names, kind: str) -> dict[str, Any] | None:
    return next((s for s in _kinds(schema, names) if isinstance(s, dict) and s["type"] == kind), None)


def _branch(schema: Schema, names: Names, name: str) -> dict[str, Any] | None:
    """Return the record of that name, or the only one there is: an envelope's class has another name."""
    records = [s for s in _kinds(schema, names) if isinstance(s, dict) and s["type"] == "record"]
    return next((record for record in records if record["name"] == name), records[0] if len(records) == 1 else None)

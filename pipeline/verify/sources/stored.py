"""Aggregates, projections and replicas that fold what is stored.

Floats are rounded as their schema has them, decimals have its scale, times are in UTC: not by the codec that the engine
does it with, as nothing here is.
"""

from __future__ import annotations

import dataclasses
import decimal
import math
import struct
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

from pipeline.adapters.avro.binding import (
    Names,
    definition,
    field_hints,
    is_message,
    named_types,
    recursive_records,
    resolve,
)
from pipeline.adapters.avro.registry import Registry, Schema
from pipeline.adapters.avro.source_code import DEPTH_MAX, TOO_DEEP
from pipeline.flow import events_as_stored, rows_as_stored
from pipeline.model import Aggregate, Projection, Replica, TopicKind

FLOAT = struct.Struct("<f")
Fit = Callable[[Any], Any] | None
Fits = dict[str, Callable[[Any], Any]]


def aggregate_as_stored(aggregate: Aggregate[Any, Any, Any], registry: Registry) -> Aggregate[Any, Any, Any]:
    """Return the aggregate over stored events and states, which reads stored rows."""
    if aggregate.reads:
        copies = [replica_as_stored(replica, registry) for replica in aggregate.replicas]
        aggregate = dataclasses.replace(aggregate, reads=copies)
    events = TopicKind.EVENT.topic(aggregate.name)
    return events_as_stored(aggregate, _body(registry, events), _body(registry, aggregate.states))


def projection_as_stored(projection: Projection[Any, Any], registry: Registry) -> Projection[Any, Any]:
    """Return the projection over stored rows."""
    return rows_as_stored(projection, _whole(registry, TopicKind.ROW.topic(projection.name)))


def replica_as_stored(replica: Replica[Any, Any], registry: Registry) -> Replica[Any, Any]:
    """Return the replica over stored rows."""
    return rows_as_stored(replica, _whole(registry, TopicKind.REPLICA.topic(replica.name)))


def _whole(registry: Registry, topic: str) -> Fit:
    _, schema = registry.current(topic)
    names = named_types(schema)
    return _bounded(rounding(schema, names), recursive_records(schema, names))


def _body(registry: Registry, topic: str) -> Fit:
    _, schema = registry.current(topic)
    body = next(field["type"] for field in schema["fields"] if field["name"] == "body")
    names = named_types(schema)
    return _bounded(rounding(body, names), recursive_records(schema, names))


def _bounded(fit: Fit, recursive: Collection[str]) -> Fit:
    """Return what refuses values that are nested too deep, too. `recursive`: records that contain themselves."""
    if not recursive:
        return fit

    def check(value: Any, deep: int) -> None:
        deep += type(value).__name__ in recursive
        if deep > DEPTH_MAX:
            raise ValueError(TOO_DEEP)
        inner: Iterable[Any] = ()
        if is_message(type(value)):
            inner = (getattr(value, name) for name in field_hints(type(value)))
        elif isinstance(value, tuple | list | dict):
            inner = value.values() if isinstance(value, dict) else value
        for each in inner:
            check(each, deep)

    def checked(value: Any) -> Any:
        check(value, 0)
        return value if fit is None else fit(value)

    return checked


def rounding(schema: Schema, names: Names, records: dict[str, Fits] | None = None) -> Fit:
    """Return what rounds a value of the schema; None if nothing is rounded. It raises ValueError for NaN.

    `records`: those met so far, with what rounds their fields, or will once all of that is known.
    """
    records = {} if records is None else records
    described, schema = definition(schema, names), resolve(schema, names)
    if isinstance(described, dict) and (made := LOGICAL.get(described.get("logicalType", ""))):
        return made(described)
    if schema in ("float", "double"):
        return _float if schema == "float" else _double
    if isinstance(schema, list):
        return _union(schema, names, records)
    if not isinstance(schema, dict):
        return None
    if schema["type"] == "record":
        return _record(schema, names, records)
    if schema["type"] == "array" and (item := rounding(schema["items"], names, records)):
        return lambda values: type(values)([item(each) for each in values])
    if schema["type"] == "map" and (value := rounding(schema["values"], names, records)):
        return lambda values: {key: value(each) for key, each in values.items()}
    return None


def _float(value: Any) -> float:
    (number,) = FLOAT.unpack(FLOAT.pack(_double(value)))
    return float(number)


def _double(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return float(value)


def _decimal(described: dict[str, Any]) -> Callable[[Any], Any]:
    zero, unit = (Decimal((0, (digit,), -described.get("scale", 0))) for digit in (0, 1))
    exact = decimal.Context(described["precision"], traps=[decimal.Inexact, decimal.InvalidOperation])

    def scaled(value: Any) -> Any:
        if type(value) is not Decimal:  # bytes
            return value
        try:
            rounded = value.quantize(unit, context=exact)
        except ArithmeticError as error:
            raise ValueError(f"{value} is no such decimal") from error
        if not rounded.is_finite():
            raise ValueError(f"{value} is not finite")
        return rounded or zero  # without a sign

    return scaled


def _in_utc(value: Any) -> Any:
    if type(value) is not datetime:  # a number
        return value
    if value.utcoffset() is None:
        raise ValueError(f"{value} has no timezone")
    return value.astimezone(UTC).replace(fold=0)


def _without_fold(value: Any) -> Any:
    return value.replace(fold=0) if type(value) is time else value


LOGICAL: dict[str, Callable[[dict[str, Any]], Callable[[Any], Any]]] = {
    "decimal": _decimal,
    "timestamp-micros": lambda _: _in_utc,
    "timestamp-millis": lambda _: _in_utc,
    "time-micros": lambda _: _without_fold,
}


def _record(schema: dict[str, Any], names: Names, records: dict[str, Fits]) -> Fit:
    if (fits := records.get(schema["name"])) is None:
        fits = records[schema["name"]] = {}
        for field in schema["fields"]:
            if fit := rounding(field["type"], names, records):
                fits[field["name"]] = fit
        if not fits:
            return None

    def rounded(value: Any) -> Any:
        changes = {name: fit(getattr(value, name)) for name, fit in fits.items()}
        return value._replace(**changes) if hasattr(value, "_fields") else dataclasses.replace(value, **changes)

    return rounded


def _union(branches: list[Any], names: Names, records: dict[str, Fits]) -> Fit:
    """Return what rounds a value by its class: that of a record has its name."""
    fits: Fits = {}
    shapes: dict[str, tuple[str, ...]] = {"array": ("tuple", "list"), "map": ("dict",), "long": ("datetime", "time")}
    shapes |= {"float": ("float",), "double": ("float",), "bytes": ("Decimal",), "fixed": ("Decimal",)}
    for branch in branches:
        target = resolve(branch, names)
        kind = target["type"] if isinstance(target, dict) else target
        if fit := rounding(branch, names, records):
            fits |= dict.fromkeys([target["name"]] if kind == "record" else shapes[kind], fit)
    if not fits:
        return None

    def rounded(value: Any) -> Any:
        fit = fits.get(type(value).__name__)
        return value if fit is None else fit(value)

    return rounded

"""Examples of how a topology's own commands are sent and its rows read, for people who have just started it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, get_args, get_origin
from uuid import UUID

from pipeline.adapters.avro.binding import field_hints, is_message
from pipeline.adapters.json.writing import json_text, to_json
from pipeline.model import Aggregate
from pipeline.model.fields import alternatives, opened
from pipeline.topology import Topology

KEY = "anna"
DEPTH = 8  # of messages within messages
VALUES: dict[Any, Any] = {
    str: "text",
    int: 1,
    float: 1.0,
    bool: True,
    bytes: b"",
    type(None): None,
    Decimal: Decimal(1),
    date: date(2026, 1, 1),
    time: time(12),
    datetime: datetime(2026, 1, 1, tzinfo=UTC),
    timedelta: timedelta(hours=1),
    UUID: UUID(int=1),
}


def example_command(aggregate: Aggregate[Any, Any, Any]) -> Any:
    """Return an instance of the first of an aggregate's commands that one can be made of; None if there is none."""
    for cls in alternatives(aggregate.command):
        try:
            return _instance(cls, 0)
        except Exception:  # a class that checks its values, or has others; nothing depends on the example
            continue
    return None


def given_fields(message: Any) -> dict[str, Any]:
    """Return the fields of a message that have another value than their default."""
    if is_dataclass(message):
        defaults = {each.name: each.default for each in fields(message) if each.init}
    else:
        defaults = {name: message._field_defaults.get(name, MISSING) for name in message._fields}
    return {name: getattr(message, name) for name in defaults if getattr(message, name) != defaults[name]}


def _instance(cls: Any, depth: int) -> Any:
    hints = field_hints(cls)
    if is_dataclass(cls):
        needed = [each.name for each in fields(cls) if each.init and each.default is each.default_factory is MISSING]
    else:
        needed = [name for name in cls._fields if name not in cls._field_defaults]
    return cls(**{name: _value(hints[name], name, depth) for name in needed})


def _value(hint: Any, name: str, depth: int) -> Any:
    kind = opened(alternatives(hint)[0])[0]
    origin = get_origin(kind)
    if depth > DEPTH:
        raise ValueError(f"{name} has no end")
    if kind is str:
        return name  # says more than any text
    if kind in VALUES:
        return VALUES[kind]
    if origin is tuple:
        return (_value(get_args(kind)[0], name, depth + 1),)
    if origin is dict:
        return {}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if is_message(kind):
        return _instance(kind, depth + 1)
    raise TypeError(f"no example of {kind}")


def examples(topology: Topology) -> Iterator[tuple[str, Any]]:
    """Return the aggregates that take commands, each with an example of one."""
    for service in topology.services.values():
        for aggregate in service.addressed:
            if (command := example_command(aggregate)) is not None:
                yield aggregate.name, command


def first_calls(topology: Topology) -> list[str]:
    """Return how the first aggregate is sent a command at the command line, and its row read; nothing without one."""
    for name, command in examples(topology):
        given = {field: to_json(value) for field, value in given_fields(command).items()}
        values = json_text(given, readable=True)
        send = f"pipeline send {name} {KEY} {type(command).__name__}"
        return [f"{send} {shlex.quote(values)}" if values != "{}" else send, f"pipeline query {name} {KEY}"]
    return []

"""Converts JSON to the message classes of a topology, and back. Errors name the field."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from typing import Any, NoReturn, get_args, get_origin

from pipeline.adapters.avro.binding import alternatives, field_hints
from pipeline.errors import BadRequest, InvalidCommand

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")  # an escape of one, or one that Python has let in


def parsed(text: str | bytes) -> Any:
    """Parse JSON. Raises InvalidCommand if it is not valid, or has NaN or an infinity, which other readers refuse.

    Raises BadRequest for text with half of a surrogate pair, which UTF-8 cannot hold.
    """
    try:
        text = text if isinstance(text, str) else text.decode()
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidCommand(f"not JSON: {error}") from None
    if SURROGATE.search(text) and (where := _not_text(value)) is not None:
        raise BadRequest(
            f"the JSON has half of a surrogate pair in {where}, which UTF-8 cannot hold; send whole characters"
        )
    return value


def _not_text(value: Any) -> str | None:
    """Return the first text in a JSON value that UTF-8 cannot hold, as Python shows it."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            try:
                each.encode()
            except UnicodeEncodeError:
                return f"{each!r:.100}"
        elif isinstance(each, dict):
            waiting += [*reversed(each.values()), *reversed(each)]
        elif isinstance(each, list):
            waiting += reversed(each)
    return None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def from_json(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the class or type `hint`.

    Raises InvalidCommand with the field and the expected type. A field `type` names the record in a union; bytes are
    base64.
    """
    options = alternatives(hint)
    if type(None) in options and value is None:
        return None
    options = tuple(option for option in options if option is not type(None))
    if len(options) > 1:
        return _one_of(options, value, where)
    (option,) = options
    if dataclasses.is_dataclass(option):
        return _record(option, value, where)
    origin, items = get_origin(option), get_args(option)
    if origin is tuple and isinstance(value, list):
        return tuple(from_json(items[0], each, f"{where}[{n}]") for n, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: from_json(items[1], each, f"{where}[{key!r}]") for key, each in value.items()}
    if option is bytes and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            raise InvalidCommand(f"{where} must be bytes in base64") from None
    if option is float and type(value) is int:
        return _float(value, where)
    if type(value) is option:
        return value
    shown: dict[Any, str] = {tuple: "a list", dict: "an object", bytes: "bytes in base64"}
    raise _misfit(where, shown.get(origin or option, getattr(option, "__name__", "something else")), value)


def _float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InvalidCommand(f"{where} is out of the range of a float") from None


def _misfit(where: str, wanted: str, value: Any) -> InvalidCommand:
    return InvalidCommand(f"{where} must be {wanted}, not {type(value).__name__} {value!r:.100}")


def _record(cls: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _misfit(where, f"an object with the fields of {cls.__name__}", value)
    hints = field_hints(cls)
    if unknown := sorted(value.keys() - hints.keys() - {"type"}):
        raise InvalidCommand(f"{where} has no field {unknown[0]!r}; it has {', '.join(hints) or 'none'}")
    required = [
        field.name
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in required if name not in value]:
        raise InvalidCommand(f"{where} lacks the field {missing[0]!r}")
    return cls(
        **{name: from_json(hint, value[name], f"{where}.{name}") for name, hint in hints.items() if name in value}
    )


def _one_of(options: tuple[Any, ...], value: Any, where: str) -> Any:
    records: dict[str, Any] = {
        getattr(each, "__name__", ""): each for each in options if dataclasses.is_dataclass(each)
    }
    if isinstance(value, dict) and records:
        if not isinstance(value.get("type"), str) or value["type"] not in records:
            raise InvalidCommand(f"{where}.type must be one of {', '.join(records)}, not {value.get('type')!r:.100}")
        return _record(records[value["type"]], value, where)
    for option in options:
        if option not in records.values():
            try:
                return from_json(option, value, where)
            except InvalidCommand:
                continue
    raise _misfit(where, " or ".join(getattr(option, "__name__", str(option)) for option in options), value)


def to_json(value: Any) -> Any:
    """Return a message as JSON: records in a list of events have their class's name as `type`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, (tuple, list)):
        return [to_json(each) for each in value]
    if isinstance(value, dict):
        return {key: to_json(each) for key, each in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value

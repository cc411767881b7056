"""Reads values from JSON: message classes, and what is in them. The only place that does. Errors name the field."""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from collections.abc import Callable
from decimal import InvalidOperation
from enum import Enum
from typing import Any, Literal, NamedTuple, NoReturn, get_args, get_origin

from pipeline.adapters.avro.binding import field_hints, given_fields, is_message
from pipeline.adapters.avro.conversions import is_enum
from pipeline.adapters.json.form import FORMS, NOT_FINITE, TEXTS, TYPE, VALUE, is_wrapped, name_of, named_members
from pipeline.errors import BadRequest, InvalidCommand, UnfitValue
from pipeline.model.fields import alternatives

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
    """Return `value`, which a person or another program has written, as the class or type `hint`; see `form`.

    A record may have its class's name as `type`, and has no other fields than the class. Raises InvalidCommand with the
    field and the expected type.
    """
    return _whole(_Reader(Writer.OTHERS), hint, value, where)


def read_back(hint: Any, value: Any, where: str, *, tagged: bool = False) -> Any:
    """Return what `to_json` has made of a value of the class or type `hint`, with the same `tagged`; its reverse.

    The code that has written it may be newer: fields that the class does not have are left out, those that it has more
    get their defaults. Raises UnfitValue if that is not enough.
    """
    try:
        return _whole(_Reader(Writer.TAGGED if tagged else Writer.PLAIN), hint, value, where)
    except InvalidCommand as error:
        raise UnfitValue(f"{error}; it was written by other code than this: run the same here") from error


def _whole(reader: _Reader, hint: Any, value: Any, where: str) -> Any:
    try:
        return reader.of(hint, value, where)
    except RecursionError:
        raise InvalidCommand(f"{where:.100} is nested too deep") from None


def base64_bytes(text: str) -> bytes:
    """Return the bytes of a text in base64. Raises ValueError."""
    return b64decode(text, validate=True)


class Writer(Enum):
    """The one who has written the JSON, and so where a record says the name of its class."""

    OTHERS = "people and programs"  # wherever they like
    PLAIN = "to_json"  # only where it has to be said
    TAGGED = "to_json, tagged"  # always


class _Reader(NamedTuple):
    """Reads what that one has written."""

    writer: Writer

    def of(self, hint: Any, value: Any, where: str) -> Any:
        options = alternatives(hint)
        if type(None) in options and value is None:
            return None
        options = tuple(option for option in options if option is not type(None))
        if len(options) > 1:
            return self._one_of(options, named_members(hint), value, where)
        (option,) = options
        return self._record(option, value, where) if is_message(option) else self._plain(option, value, where)

    def _plain(self, option: Any, value: Any, where: str) -> Any:
        origin, items = get_origin(option), get_args(option)
        if origin in (tuple, list) and isinstance(value, list):
            return origin(self.of(items[0], each, f"{where}[{n}]") for n, each in enumerate(value))
        if origin is dict and isinstance(value, dict):
            return {key: self.of(items[1], each, f"{where}[{key!r}]") for key, each in value.items()}
        if option is bytes and isinstance(value, str):
            return _read(base64_bytes, value, where, "bytes in base64")
        if option in TEXTS and isinstance(value, str):
            return _read(TEXTS[option], value, where, FORMS[option])
        if option is float and type(value) in (int, float):
            return _float(value, where)
        if option is float and isinstance(value, str) and value in NOT_FINITE:
            return NOT_FINITE[value]
        if origin is Literal and value in items:
            return value
        if is_enum(option) and isinstance(value, str) and value in option.__members__:
            return option[value]
        if type(value) is option:
            return value
        if origin is Literal or is_enum(option):
            raise _misfit(where, f"one of {', '.join(items or [member.name for member in option])}", value)
        shown: dict[Any, str] = {tuple: "a list", list: "a list", dict: "an object", bytes: "bytes in base64", **FORMS}
        raise _misfit(where, shown.get(origin or option, getattr(option, "__name__", "something else")), value)

    def _one_of(self, options: tuple[Any, ...], of_names: tuple[Any, ...], value: Any, where: str) -> Any:
        named = {name_of(option): option for option in of_names}
        records = {name: option for name, option in named.items() if is_message(option)}
        if isinstance(value, dict) and named:
            option = named.get(str(value.get(TYPE)))
            if option is not None and not is_message(option) and value.keys() == {TYPE, VALUE}:
                return self._plain(option, value[VALUE], where)
            if records:
                return self._named_record(records, value, where)
        for option in options:
            if option not in of_names:
                try:
                    return self.of(option, value, where)
                except InvalidCommand:
                    continue
        raise _misfit(where, " or ".join(getattr(option, "__name__", str(option)) for option in options), value)

    def _named_record(self, classes: dict[str, Any], value: dict[str, Any], where: str) -> Any:
        """Return the record that `value` names as its `type`, of these classes by name."""
        name = value.get(TYPE)
        if not isinstance(name, str) or name not in classes:
            raise InvalidCommand(f"{where}.type must be one of {', '.join(classes)}, not {name!r:.100}")
        inner = _wrapped(value, where) if is_wrapped(classes[name]) else value
        return (self._given if self.writer is Writer.OTHERS else self._made)(classes[name], inner, where)

    def _record(self, cls: Any, value: Any, where: str) -> Any:
        if self.writer is Writer.OTHERS:
            return self._given(cls, value, where)
        if self.writer is Writer.TAGGED and is_wrapped(cls):
            value = _wrapped(_object(cls, value, where), where)
        return self._made(cls, value, where)

    def _given(self, cls: Any, value: Any, where: str) -> Any:
        """Return a record that may have its name, and may have it around it if it has a field `type` of its own."""
        hints, value = field_hints(cls), _object(cls, value, where)
        if TYPE not in hints and value.get(TYPE, cls.__name__) != cls.__name__:
            raise InvalidCommand(f"{where}.type must be {cls.__name__}, not {value[TYPE]!r:.100}")
        if TYPE in hints and value.keys() == {TYPE, VALUE} and value[TYPE] == cls.__name__:
            inner = value[VALUE]
            if VALUE not in hints or (isinstance(inner, dict) and {TYPE, VALUE} <= inner.keys() <= hints.keys()):
                return self._given(cls, inner, where)
        if unknown := sorted(value.keys() - hints.keys() - {TYPE}):
            raise InvalidCommand(f"{where} has no field {unknown[0]!r}; it has {', '.join(hints) or 'none'}")
        return self._made(cls, value, where)

    def _made(self, cls: Any, value: Any, where: str) -> Any:
        """Return the record with those of these fields that its constructor takes."""
        hints, given, value = field_hints(cls), given_fields(cls), _object(cls, value, where)
        if missing := [name for name, is_needed in given.items() if is_needed and name not in value]:
            raise InvalidCommand(f"{where} lacks the field {missing[0]!r}")
        fields = {name: self.of(hints[name], value[name], f"{where}.{name}") for name in given if name in value}
        try:
            return cls(**fields)
        except Exception as error:  # the class has conditions of its own
            raise InvalidCommand(f"{where} is no {cls.__name__}: {type(error).__name__}: {error}") from error


def _object(cls: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _misfit(where, f"an object with the fields of {cls.__name__}", value)
    return value


def _wrapped(value: dict[str, Any], where: str) -> Any:
    if value.keys() != {TYPE, VALUE}:
        raise InvalidCommand(f"{where} must be an object with `type` and `value`")
    return value[VALUE]


def _read(read: Callable[[Any], Any], value: Any, where: str, wanted: str) -> Any:
    try:
        return read(value)
    except (ValueError, InvalidOperation):
        raise InvalidCommand(f"{where} must be {wanted}, not {value!r:.100}") from None


def _float(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):  # 1e999 is JSON; infinity is written as a text
        raise InvalidCommand(f"{where} is out of the range of a float")
    return number


def _misfit(where: str, wanted: str, value: Any) -> InvalidCommand:
    return InvalidCommand(f"{where} must be {wanted}, not {type(value).__name__} {value!r:.100}")

"""What a function of a topology may ask for beside what it is given: whose it is, which version, when, and its ids.

A function asks by a parameter named `context`, after those that it has anyway; it is passed by that name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, Signature, isasyncgenfunction, iscoroutinefunction, signature
from types import MethodType
from typing import Any, Concatenate, TypeVar

from pipeline.errors import TopologyError
from pipeline.model.records.keys import named

A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")
# A function of two values that may ask for a context. Two types, as mypy infers no lambda from the second alone.
Given = Callable[[A, B], R] | Callable[Concatenate[A, B, ...], R]


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The context of a command that is decided. Times are in milliseconds since the epoch.

    `version`: that of the state, 0 before the first event. `time_ms`: when the broker stored the command; the events
    get it, too. `issued_ms`: when the sender issued it, by its own clock. `causation_id`: what caused it, an event's
    id or a command's position; None: a request from outside.
    """

    key: str
    version: int
    time_ms: int
    command_id: str
    correlation_id: str
    causation_id: str | None
    issued_ms: int


@dataclass(frozen=True, slots=True)
class EventContext:
    """The context of an event. It stands on the log, so a fold today and a replay tomorrow are given an equal one.

    `key`: the id of the aggregate that it has happened to. `version`: 1 for its first event. `time_ms`: when the broker
    stored the command that it answers, in milliseconds since the epoch. `event_id`: `<topic>/<key>/<version>`.
    """

    key: str
    version: int
    time_ms: int
    event_id: str
    command_id: str
    correlation_id: str


PARAMETER = "context"
CLASSES = {cls.__name__: cls for cls in (CommandContext, EventContext)}
CLASS = re.compile(rf"\b({'|'.join(CLASSES)})\b")
POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def asks_context(function: Any, where: str, given: Sequence[str], context: type | None) -> bool:
    """Return whether a function asks for its context.

    `where`: such as "aggregate 'orders': its decide". `given`: what it is called with. `context`: the class of what it
    may ask for; None: of nothing. Raises TopologyError if it cannot be called so.
    """
    who = f"{where}, {named(function)},"
    if not callable(function):
        raise TopologyError(f"{who} is no function; give one")
    if any(iscoroutinefunction(each) or isasyncgenfunction(each) for each in (function, type(function).__call__)):
        raise TopologyError(f"{who} is async; it is called and not awaited, so make it a plain function")
    try:
        called, inner = signature(function, follow_wrapped=False), _innermost(function)
        shown = _shown(inner)
    except (TypeError, ValueError):  # of a builtin
        return False
    asks = _asks(inner, shown, who, given, context)
    what = ", ".join(given) + (f", and a context if a parameter is named {PARAMETER!r}" if context else "")
    try:
        called.bind(*given, **({PARAMETER: None} if asks else {}))
    except TypeError as error:
        raise TopologyError(f"{who} cannot be called: {error}; it is given {what}") from None
    return asks


def _innermost(function: Any) -> Any:
    """Return the function that wrappers pass on to all that they are given."""
    while hasattr(function, "__wrapped__") and not isinstance(function, MethodType) and _passes_on(function):
        function = function.__wrapped__
    return function


def _passes_on(function: Any) -> bool:
    parameters = signature(function, follow_wrapped=False).parameters.values()
    return any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters)


def _shown(function: Any) -> Signature:
    return signature(function, follow_wrapped=_passes_on(function))


def _asks(function: Any, shown: Signature, who: str, given: Sequence[str], context: type | None) -> bool:
    """Whether a function has the parameter, and it is not its author's own."""
    for place, parameter in enumerate(shown.parameters.values()):
        _check(parameter, place, who, given, context)
    found = shown.parameters.get(PARAMETER)
    if found is None or _is_given(shown, found, given):
        return False
    if isinstance(function, partial) and PARAMETER in function.keywords:
        return False  # its author's own
    if context is None:
        raise TopologyError(
            f"{who} has a parameter {PARAMETER!r}, but what it is given carries none; let `route` ask for it, and "
            "put what is needed into its messages"
        )
    if found.default is not Parameter.empty:
        raise TopologyError(
            f"{who} has a parameter {PARAMETER!r} with a default; leave the default out, so that it gets the "
            f"{context.__name__}, or give the parameter another name"
        )
    if found.kind is Parameter.POSITIONAL_ONLY:
        raise TopologyError(
            f"{who} has a parameter {PARAMETER!r} before a slash; it is passed by name, so put it after"
        )
    return True


def _is_given(shown: Signature, parameter: Parameter, given: Sequence[str]) -> bool:
    """Whether a parameter of that name stands where something else is given, as it may always have."""
    first = [each.name for each in shown.parameters.values() if each.kind in POSITIONAL][: len(given)]
    return parameter.name in first


def _check(parameter: Parameter, place: int, who: str, given: Sequence[str], context: type | None) -> None:
    """Raise TopologyError if a parameter is annotated with a context that it does not get."""
    found = set(CLASS.findall(_text(parameter.annotation)))
    if not found:
        return
    wanted = " | ".join(sorted(found))
    if parameter.name != PARAMETER:
        cure = f"only one named {PARAMETER!r} is given a context; rename it"
    elif parameter.kind in POSITIONAL and place < len(given):
        cure = f"it stands where {given[place]} is given; put it behind {given[-1]}"
    elif context is not None and context.__name__ not in found:
        cure = f"what it is given is of the class {context.__name__}; correct the annotation"
    else:
        return
    raise TopologyError(f"{who} has a parameter {parameter.name!r} annotated {wanted}, but {cure}")


def _text(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", None) or str(annotation)

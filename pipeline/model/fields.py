"""Annotations of message classes: what is behind names for them, and what an author says beside the types.

That is said of a field in `Annotated[…]`, of the class by `renamed`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, NewType, TypeVar, Union, get_args, get_origin

C = TypeVar("C", bound=type)
ALIAS: Any = getattr(typing, "TypeAliasType", ())  # of `type X = …`, from Python 3.12 on


class Precision(NamedTuple):
    """How exact a Decimal is, as in `Annotated[Decimal, Precision(18, 2)]`: `scale` digits are after the point."""

    digits: int
    scale: int


class Renamed:
    """The names that a field had before: `Annotated[str, Renamed("surname")]`. Records of then stay readable."""

    def __init__(self, *before: str) -> None:
        self.before = before

    def __repr__(self) -> str:
        return f"Renamed({', '.join(map(repr, self.before))})"


def renamed(*before: str) -> Callable[[C], C]:
    """Say the names that a message class had before: `@renamed("OrderMade")`. Records of then stay readable.

    It stands above `@dataclass`, which may make the class anew.
    """

    def note(cls: C) -> C:
        cls.__renamed__ = before  # type: ignore[attr-defined]
        return cls

    return note


def opened(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return what is behind `type X = …`, NewType and Annotated, and all that is said there."""
    said: tuple[Any, ...] = ()
    while True:
        if isinstance(annotation, ALIAS):
            annotation = annotation.__value__
        elif isinstance(get_origin(annotation), ALIAS):
            alias = get_origin(annotation)
            given = dict(zip(alias.__type_params__, get_args(annotation), strict=True))
            names = getattr(alias.__value__, "__parameters__", ())
            annotation = alias.__value__[tuple(given[name] for name in names)] if names else alias.__value__
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif get_origin(annotation) is Annotated:
            said += annotation.__metadata__
            annotation = annotation.__origin__
        else:
            return type(None) if annotation is None else annotation, said


def members(annotation: Any) -> list[Any]:
    """Return the members of a union, those of unions in it too, each as it is written; any other type alone."""
    inner, _ = opened(annotation)
    if get_origin(inner) not in (Union, types.UnionType):
        return [annotation]
    return [each for member in get_args(inner) for each in members(member)]


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union annotation, and what is behind each; a single class is a union of one."""
    return tuple(dict.fromkeys(opened(member)[0] for member in members(annotation)))

"""How to make instances of a message class: by its constructor, or without it if it only sets the fields.

A frozen dataclass sets each field through object.__setattr__, and a named tuple repacks its arguments. That takes most
of the time to decode a small record.
"""

from __future__ import annotations

import dataclasses
import types
from collections import namedtuple
from typing import Any, NamedTuple


class Construction(NamedTuple):
    """The fields that the constructor takes, and how to make an instance.

    `how`: "slots" or "tuple" if the constructor may be bypassed, otherwise "call"; "none" if there is no class.
    """

    how: str
    positional: tuple[str, ...]
    keywords: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """All fields, in the order of a call."""
        return self.positional + self.keywords


def construction(cls: type) -> Construction:
    """Return how to make a `cls`. A class with code of its own in construction is called as usual."""
    if not dataclasses.is_dataclass(cls):
        names: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]  # Binding accepts nothing else
        return Construction("tuple" if is_plain_tuple(cls, names) else "call", names)
    fields = [field for field in dataclasses.fields(cls) if field.init]
    if not has_generated_init(cls):  # its parameters may have another order: call it as dataclasses.replace does
        return Construction("call", (), tuple(field.name for field in fields))
    placed = tuple(field.name for field in fields if not field.kw_only)
    named = tuple(field.name for field in fields if field.kw_only)
    return Construction("slots" if has_plain_slots(cls) else "call", placed, named)


def is_plain(cls: Any) -> bool:
    """Return whether no code of the author runs when an instance is made, read or deleted."""
    reads: Any = cls.__getattribute__
    usual = reads in (object.__getattribute__, tuple.__getattribute__)
    return type(cls) is type and usual and not hasattr(cls, "__del__")


def is_plain_tuple(cls: Any, names: tuple[str, ...]) -> bool:
    """Return whether `cls` is a plain typing.NamedTuple, apart from its methods."""
    make: Any = namedtuple  # type checkers do not know its fields
    twin = make("twin", names)
    getters = {type(twin.__dict__[name]) for name in names}
    return (
        is_plain(cls)
        and cls.__init__ is object.__init__
        and getattr(cls.__new__, "__code__", None) == twin.__new__.__code__
        and all(type(cls.__dict__.get(name)) in getters for name in names)
    )


def has_generated_init(cls: Any) -> bool:
    """Return whether the constructor is the one that dataclasses generates.

    If so, its code equals that of a twin without methods. The constructor of a class with a __post_init__ calls it, so
    it differs from the twin's.
    """
    own = [
        (f.name, Any, dataclasses.field(default=f.default, default_factory=f.default_factory, kw_only=f.kw_only))
        for f in dataclasses.fields(cls)
        if f.init
    ]
    frozen = cls.__dataclass_params__.frozen
    twin: Any = dataclasses.make_dataclass("Twin", own, frozen=frozen, slots="__slots__" in cls.__dict__)
    return bool(getattr(cls.__init__, "__code__", None) == twin.__init__.__code__)


def has_plain_slots(cls: Any) -> bool:
    """Return whether the generated constructor of this dataclass does nothing but set the slots."""
    return (
        is_plain(cls)
        and cls.__new__ is object.__new__
        and cls.__dictoffset__ == 0
        and (cls.__setattr__ is object.__setattr__ or cls.__dataclass_params__.frozen)
        and all(field.init for field in dataclasses.fields(cls))
        and all(
            isinstance(slot := cls.__dict__.get(field.name), types.MemberDescriptorType) and slot.__objclass__ is cls
            for field in dataclasses.fields(cls)
        )
    )

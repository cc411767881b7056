"""What the functions of a topology are: told from their code, and from that of the project's functions they call.

Lines, comments, docstrings and the names of local variables make no difference.
"""

from __future__ import annotations

import dis
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from uuid import UUID

from pipeline.develop.code.files import is_authors

VALUES = (str, bytes, int, float, complex, Decimal, date, time, timedelta, UUID, type(None), type(...))
NAMED = {*dis.hasname, *dis.hasconst, *dis.hascompare}  # operations whose argument is told by what it is, not by where
READS = ("LOAD_GLOBAL", "LOAD_NAME")
FLAGS = 0xFF  # those that say what a function is, rather than whether it has a docstring, and so on


def digest(project: Sequence[str], *values: Any) -> str:
    """Return a text that differs if the code of one of these functions does. `project`: directories, as real paths."""
    walk = _Walk(project)
    found = hashlib.sha256()
    for value in values:
        for part in walk.parts(value):
            found.update(f"{len(part)}:{part}".encode(errors="surrogatepass"))
    return found.hexdigest()[:32]


class _Walk:
    def __init__(self, project: Sequence[str]) -> None:
        self._project = project
        self._ours: dict[str, bool] = {}  # by file
        self._seen: dict[int, Any] = {}  # with the objects, so that their ids stay theirs

    def parts(self, value: Any) -> Iterator[str]:
        """Return what a value is, as texts; of what is not the project's, its name alone."""
        kind = type(value)
        if isinstance(value, VALUES):
            yield f"{kind.__name__} {value!r}"
        elif isinstance(value, tuple | frozenset):  # equal ones may be one object, or several
            yield kind.__name__
            yield from self._inner(value)
        elif id(value) in self._seen:
            yield "again"
        else:
            self._seen[id(value)] = value
            yield kind.__name__
            yield from self._inner(value)

    def _inner(self, value: Any) -> Iterator[str]:
        if isinstance(value, Enum):
            yield f"{type(value).__name__}.{value.name}"
        elif isinstance(value, frozenset | set):
            yield from sorted("".join(self.parts(each)) for each in value)
        elif isinstance(value, tuple | list):
            yield from self._all(value)
        elif isinstance(value, Mapping):
            yield from self._all(part for pair in value.items() for part in pair)
        elif isinstance(value, partial):
            yield from self._all((value.func, value.args, value.keywords))
        elif isinstance(value, MethodType):
            yield from self._all((value.__func__, value.__self__))
        elif isinstance(value, property):
            yield from self._all((value.fget,))
        elif isinstance(value, staticmethod | classmethod):
            yield from self._all((value.__func__,))
        elif isinstance(value, FunctionType):
            yield from self._function(value)
        elif isinstance(value, type):
            yield value.__qualname__
            if self._is_ours(_file_of(value)):
                yield from self._methods(value)
        elif is_dataclass(value) and self._is_ours(_file_of(type(value))):
            yield from self._all(getattr(value, each.name, None) for each in fields(value))
        elif callable(value):
            yield str(getattr(value, "__qualname__", ""))

    def _all(self, values: Iterable[Any]) -> Iterator[str]:
        for each in values:
            yield from self.parts(each)

    def _is_ours(self, file: str | None) -> bool:
        if file is None:
            return False
        if file not in self._ours:
            self._ours[file] = is_authors(os.path.realpath(file), self._project)
        return self._ours[file]

    def _methods(self, cls: type) -> Iterator[str]:
        """Return what the methods are that a class's author has written."""
        for name, value in vars(cls).items():
            plain = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if isinstance(plain, FunctionType) and self._is_ours(plain.__code__.co_filename):
                yield name
                yield from self.parts(value)

    def _function(self, function: FunctionType) -> Iterator[str]:
        if not self._is_ours(function.__code__.co_filename):
            yield f"{function.__module__}.{function.__qualname__}"
            return
        yield from self._all((function.__defaults__, function.__kwdefaults__))
        closed = {}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                closed[name] = cell.cell_contents
            except ValueError:  # not filled yet
                continue
        yield from self._all(closed.values())
        yield from self._code(function.__code__, function.__globals__)

    def _code(self, code: CodeType, names: Mapping[str, Any]) -> Iterator[str]:
        yield f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount} {code.co_flags & FLAGS}"
        module: ModuleType | None = None  # that the step before has put there
        for step in dis.get_instructions(code):
            read = names.get(step.argval) if step.opname in READS else None
            inner = getattr(module, str(step.argval), None) if step.opcode in dis.hasname and module else None
            module = next((each for each in (read, inner) if self._is_module_of_ours(each)), None)
            told = step.argval if step.opcode in NAMED else step.arg
            if isinstance(told, CodeType):
                yield step.opname
                yield from self._code(told, names)
                continue
            yield f"{step.opname} {'' if isinstance(told, frozenset | tuple) else repr(told)}"
            if isinstance(told, frozenset | tuple):
                yield from self._all((told,))
            yield from self._all(each for each in (read, inner) if each is not None and each is not module)

    def _is_module_of_ours(self, value: Any) -> bool:
        return isinstance(value, ModuleType) and self._is_ours(getattr(value, "__file__", None))


def _file_of(cls: type) -> str | None:
    """Return the file of the module that a class is declared in."""
    return getattr(sys.modules.get(cls.__module__), "__file__", None)

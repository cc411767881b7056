"""Fits values to their schema: gives each as it will be read back, so that what is folded now is folded so ever after.

An Avro `float` has 32 bits, and a `double` takes whatever Python can make a float of. A Decimal gets the scale of its
schema, a datetime UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

from pipeline.adapters.avro.binding import Binding, resolve
from pipeline.adapters.avro.compile_decode import compile_decode
from pipeline.adapters.avro.compile_encode import compile_encode
from pipeline.adapters.avro.compile_native import compile_native
from pipeline.adapters.avro.conversions import Converted
from pipeline.adapters.avro.explain import explanation
from pipeline.adapters.avro.registry import Schema
from pipeline.errors import EncodeError

Fit = Callable[[Any], Any]
Misfits = tuple[type[Exception], ...]


@overload
def fitting(binding: Binding, root: object, misfits: Misfits, *, native: bool) -> Fit | None: ...
@overload
def fitting(binding: Binding, root: object, misfits: Misfits, *, native: bool, always: Literal[True]) -> Fit: ...
def fitting(binding: Binding, root: object, misfits: Misfits, *, native: bool, always: bool = False) -> Fit | None:
    """Return `fit(value)`: the value as it is read back, itself if nothing of it changes.

    For an envelope, the value is its body. None if no value of the schema changes, unless `always`. `fit` raises
    EncodeError if the value does not fit at all.
    """
    schema, hint = binding.schema, root
    if binding.body is not None:
        schema = next(field["type"] for field in schema["fields"] if field["name"] == "body")
        hint = binding.body
    if not always and not _is_inexact(schema, binding):
        return None

    def unwritable(value: Any, error: Exception) -> EncodeError:
        return EncodeError(f"{binding.topic}: {explanation(value, hint, schema, binding.names, error)}")

    program = compile_native(binding, b"", misfits, _no_header, _no_header, unwritable, schema) if native else None
    if program is not None:
        return program.fit
    encode, decode = compile_encode(binding, b"", misfits, unwritable, schema), compile_decode(binding, schema)
    return lambda value: decode(encode(value), 0)


def _no_header(*_: Any) -> Exception:
    raise AssertionError("a program that only fits is not asked to decode")


def _is_inexact(schema: Schema, binding: Binding, seen: set[int] | None = None) -> bool:
    """Whether a value of the schema may be read back as another. `seen`: what has been looked at."""
    seen = set() if seen is None else seen
    schema = resolve(schema, binding.names)
    if isinstance(schema, list):
        return any(_is_inexact(branch, binding, seen) for branch in schema)
    if isinstance(schema, Converted):
        return schema.conversion.inexact or _is_inexact(schema.inner, binding, seen)
    if isinstance(schema, dict):
        if id(schema) in seen:
            return False
        seen.add(id(schema))
        parts = [*(field["type"] for field in schema.get("fields", ())), schema.get("items"), schema.get("values")]
        return any(_is_inexact(part, binding, seen) for part in parts if part is not None)
    return schema in ("float", "double")

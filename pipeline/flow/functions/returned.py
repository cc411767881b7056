"""What a function of a topology returns, held to be a list; the error names function and class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any


def returned_list(where: str, on: Any, returned: Any, of: str) -> Sequence[Any]:
    """Return what a function has returned as a list or a tuple, one that it yields included.

    `where`: such as "decide of 'orders'"; `on`: what it was given; `of`: what the list holds. Raises TypeError if it is
    none: None from a forgotten case, one value alone, a set, which has no order.
    """
    if type(returned) in (list, tuple):
        return returned  # type: ignore[no-any-return]
    if isinstance(returned, Iterator):
        return list(returned)
    what = f"{where} returned {'None' if returned is None else f'a {type(returned).__name__}'} on a {type(on).__name__}"
    if returned is None:
        raise TypeError(f"{what}: is a case missing? Return [] if nothing happens")
    if isinstance(returned, str | bytes | Set | Mapping) or not isinstance(returned, Iterable) or is_record(returned):
        raise TypeError(f"{what}: return a list of {of}")
    return list(returned)


def is_record(value: Any) -> bool:
    """Whether a value is one message or Send, though a named tuple can be iterated over."""
    return hasattr(value, "_fields") or hasattr(value, "__dataclass_fields__")

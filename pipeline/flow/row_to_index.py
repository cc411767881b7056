"""row -> index: the values by which a row can be found beside its key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.model.records.keys import no_text


def row_to_index(indexes: Mapping[str, Callable[[Any], str | None]], row: Any) -> Iterator[tuple[str, str]]:
    """Return the pairs (index, value) of a row; none if the function of its index returns None.

    Raises TypeError if a value is not text.
    """
    for name, value_of in indexes.items():
        value = value_of(row)
        if value is None:
            continue
        if not isinstance(value, str):
            raise TypeError(f"the index {name!r} must give text or None, not {no_text(value)}")
        yield name, value

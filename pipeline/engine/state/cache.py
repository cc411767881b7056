"""Decoded rows kept in memory, bounded in bytes."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

MISSING: Any = object()
ENTRY_BYTES = 150  # a key and its place in a dict
ROWS_MIN = 100  # kept at least, however large they are


class RowCache:
    """Rows by key, the ones used last: None for a key known to have no row. `get` gives MISSING for one not here.

    Two generations: what is used goes into the young one; when that is half of what may be kept, it becomes the old
    one, and the old one is forgotten. That costs next to nothing a row, and all that was used lately is there.

    How many rows the bytes are good for is measured: by walking through one row in each `update`.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max, self._row_bytes = bytes_max, 0.0
        self._young: dict[bytes, Any] = {}
        self._old: dict[bytes, Any] = {}
        self._half = ROWS_MIN

    def limit(self, bytes_max: int) -> None:
        """Change how much may be kept."""
        self._bytes_max = bytes_max

    @property
    def kept_bytes(self) -> int:
        """About how much is kept."""
        return int((len(self._young) + len(self._old)) * self._row_bytes)

    def get(self, key: bytes) -> Any:
        """The row, or MISSING."""
        row = self._young.get(key, MISSING)
        if row is MISSING:
            row = self._old.get(key, MISSING)
            if row is not MISSING:
                self._young[key] = row
        return row

    def update(self, rows: Mapping[bytes, Any]) -> None:
        """Keep these."""
        if not rows:
            return
        self._young.update(rows)
        size = ENTRY_BYTES + deep_bytes(next(iter(rows.values())))
        self._row_bytes += (size - self._row_bytes) / (16 if self._row_bytes else 1)
        self._half = max(ROWS_MIN, int(self._bytes_max / self._row_bytes / 2))
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}


def deep_bytes(value: Any) -> int:
    """About how many bytes of memory a value takes, with all that is in it."""
    size = sys.getsizeof(value)
    if isinstance(value, (tuple, list)):
        return size + sum(map(deep_bytes, value))
    if isinstance(value, dict):
        return size + sum(map(deep_bytes, value)) + sum(map(deep_bytes, value.values()))
    if dataclasses.is_dataclass(value):
        return size + sum(deep_bytes(getattr(value, field.name)) for field in dataclasses.fields(value))
    return size

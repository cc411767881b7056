"""Keys of rows that belong to an aggregate or a key: `<length><key><rest>`, so that those of one stand together.

No other key and rest make the same row key. A second order of a table's rows is local, under a prefix of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.engine.ports import Store

LENGTH_BYTES = 4
READ_AT_ONCE = 200  # rows


def table_prefix(name: str) -> bytes:
    """What the keys of a table begin with in its task's store."""
    return name.encode() + b"\0"


def order_prefix(name: str) -> bytes:
    """What the keys of a table's second order begin with."""
    return table_prefix(f"{name}.order")


def join_key(key: bytes, rest: bytes = b"") -> bytes:
    """The row key; without `rest`, what all row keys of `key` begin with."""
    return len(key).to_bytes(LENGTH_BYTES, "big") + key + rest


def split_key(row_key: bytes) -> tuple[bytes, bytes]:
    """Key and rest; the reverse of `join_key`."""
    end = LENGTH_BYTES + int.from_bytes(row_key[:LENGTH_BYTES], "big")
    return row_key[LENGTH_BYTES:end], row_key[end:]


def scan_all(store: Store, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """All pairs whose key begins with `prefix`, from `prefix + start` on; a part is read at a time."""
    begin = prefix + start
    while rows := store.scan(prefix, begin, READ_AT_ONCE):
        yield from rows
        begin = rows[-1][0] + b"\0"

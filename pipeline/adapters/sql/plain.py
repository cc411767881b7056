"""Rows of a task without columns, such as parked records and index entries: bytes by key, as in a local table.

The fence lets a single writer through, which keeps keys unique; the index does not.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from pipeline.adapters.sql.database import PLAIN
from pipeline.engine.ports import TP

HEAD_BYTES = 1_000  # PostgreSQL's indexes take 2,700


class PlainRows:
    """The rows of one task."""

    def __init__(self, source: TP) -> None:
        self._place = {"source": source.topic, "partition": source.partition}
        self._mine = sa.and_(PLAIN.c.source == source.topic, PLAIN.c.partition == source.partition)

    def get(self, connection: sa.Connection, key: bytes) -> bytes | None:
        """Return the value under a key."""
        here = sa.and_(PLAIN.c.head == key[:HEAD_BYTES], PLAIN.c.rest == key[HEAD_BYTES:])
        return connection.execute(sa.select(PLAIN.c.value).where(self._mine, here)).scalar()

    def scan(self, connection: sa.Connection, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See Store.scan."""
        begin = max(prefix, start)
        head, rest = begin[:HEAD_BYTES], begin[HEAD_BYTES:]
        behind = sa.or_(PLAIN.c.head > head, PLAIN.c.rest >= rest)
        found = connection.execute(
            sa.select(PLAIN.c.head, PLAIN.c.rest, PLAIN.c.value)
            .where(self._mine, PLAIN.c.head >= head, behind)
            .order_by(PLAIN.c.head, PLAIN.c.rest)
            .limit(limit)
        )
        pairs = [(each.head + each.rest, each.value) for each in found]
        return [(key, value) for key, value in pairs if key.startswith(prefix)]

    def write(self, connection: sa.Connection, changes: Mapping[bytes, bytes | None]) -> None:
        """Write rows; None deletes."""
        if changes:
            these = sa.and_(PLAIN.c.head == sa.bindparam("its_head"), PLAIN.c.rest == sa.bindparam("its_rest"))
            named = [{"its_head": key[:HEAD_BYTES], "its_rest": key[HEAD_BYTES:]} for key in changes]
            connection.execute(sa.delete(PLAIN).where(self._mine, these), named)
        put = [
            {**self._place, "head": key[:HEAD_BYTES], "rest": key[HEAD_BYTES:], "value": value}
            for key, value in changes.items()
            if value is not None
        ]
        if put:
            connection.execute(sa.insert(PLAIN), put)

    def wipe(self, connection: sa.Connection) -> None:
        """Delete all rows."""
        connection.execute(sa.delete(PLAIN).where(self._mine))

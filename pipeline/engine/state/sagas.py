"""The states of sagas in one partition, and which of their instances have not ended: since when, and which are stuck.

What has not ended is kept in memory: it is few beside what has. It is read from the store once, a part at a time, and
follows the commits from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.engine.ports import Store
from pipeline.engine.state.table import Table, TableSpec
from pipeline.model.saga.saga import IN_FLIGHT, Summary

log = logging.getLogger(__name__)

ROWS = 500  # read at once, in some milliseconds
STUCK = "stuck"


class Unsettled(NamedTuple):
    """An instance that has not ended. `since_ms`: when it began; after a restart, its last event before that.

    `status_ms`: when it came to its status, by its events alike.
    """

    status: str
    since_ms: int
    status_ms: int


class SagaTable(Table):
    """Rows of a saga. `unsettled`: by key, once `watch` was called; read by other threads."""

    def __init__(self, summary: Callable[[Any], Summary], spec: TableSpec, store: Store) -> None:
        super().__init__(spec, store)
        self._summary, self._watches = summary, False
        self.unsettled: dict[bytes, Unsettled] = {}
        self._next = self.prefix  # where to read on
        self._noted: set[bytes] | None = set()  # committed while the store is being read; None: it has been

    def watch(self) -> None:
        """Follow commits from now on; `read_on` is to be called until it returns False."""
        self._watches = True

    def read_on(self) -> bool:
        """Read some more of the store. False if that was the last of it."""
        rows = self.store.scan(self.prefix, self._next, ROWS)
        cut = len(self.prefix)
        for name, data in rows:
            key = name[cut:]
            if self._noted is not None and key not in self._noted:
                try:
                    self._note(key, self.codec.decode(data))
                except Exception:  # it fails where it is folded or read, and says so there
                    log.debug("the state of %s %r cannot be counted", self.spec.name, key, exc_info=True)
        if len(rows) < ROWS:
            self._noted = None
            return False
        self._next = rows[-1][0] + b"\0"
        return True

    def mark_committed(self) -> None:
        if self._watches:
            for key, row in self._changed.items():
                self._note(key, row)
            if self._noted is not None:
                self._noted.update(self._changed)
        super().mark_committed()

    def _note(self, key: bytes, row: Any) -> None:
        status = "" if row is None else self._status(row.body)
        if status not in IN_FLIGHT:
            self.unsettled.pop(key, None)
            return
        before = self.unsettled.get(key)
        since_ms = row.time_ms if before is None else before.since_ms
        status_ms = before.status_ms if before is not None and before.status == status else row.time_ms
        self.unsettled[key] = Unsettled(status, since_ms, status_ms)

    def _status(self, state: Any) -> str:
        try:
            return self._summary(state).status
        except Exception:  # the author's code; `pipeline saga` shows what it raises
            return ""

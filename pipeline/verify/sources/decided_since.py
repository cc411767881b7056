"""A history without what earlier code has decided: what came of that is taken from the logs, as it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.engine.ports import TP
from pipeline.model.records.step_notes import StepNotes
from pipeline.verify.sources.history import Entry, History, Kept, Stored


class DecidedSince:
    """The history without the commands that were stored before `since_ms`, as if retention had deleted them.

    `owners`: the service of each command topic. A command that it had yet to fold is decided by present code, and is
    kept. `left_out`: how many commands were, of the partitions that were asked for.
    """

    def __init__(self, history: History, since_ms: int, owners: Mapping[str, str]) -> None:
        self._history, self._since_ms, self._owners = history, since_ms, owners
        self._lows: dict[TP, int] = {}
        self.left_out = 0

    @property
    def ahead_ms(self) -> int:
        return self._history.ahead_ms

    def may_have_raised(self, decide: Callable[[], object]) -> bool:
        return self._history.may_have_raised(decide)

    def partitions(self, topic: str) -> int:
        return self._history.partitions(topic)

    def bound(self, service: str, tp: TP) -> int | None:
        return self._history.bound(service, tp)

    def steps(self, service: str, tp: TP) -> StepNotes:
        return self._history.steps(service, tp)

    def committed(self, service: str, tp: TP) -> int | None:
        return self._history.committed(service, tp)

    def low(self, tp: TP) -> int:
        if tp.topic not in self._owners:
            return self._history.low(tp)
        if tp not in self._lows:
            self._lows[tp] = self._begin(tp)
        return self._lows[tp]

    def _begin(self, tp: TP) -> int:
        """Find the first command that counts."""
        bound, low = self._history.bound(self._owners[tp.topic], tp) or 0, self._history.low(tp)
        for entry in self._history.records(tp):
            if entry.time_ms >= self._since_ms or entry.offset >= bound:
                break
            self.left_out += 1
            low = entry.offset + 1
        return low

    def end(self, tp: TP) -> int:
        return self._history.end(tp)

    def records(self, tp: TP) -> Iterator[Entry]:
        low = self.low(tp)
        return (entry for entry in self._history.records(tp) if entry.offset >= low)

    def kept(self, topic: str) -> Kept:
        return self._history.kept(topic)

    def rows(self, table: str, partition: int) -> dict[str, Any] | None:
        return self._history.rows(table, partition)

    def stored(self, service: str) -> dict[TP, Stored] | None:
        return self._history.stored(service)

    def wait(self) -> bool:
        return self._history.wait()

"""A history without what other code has decided: what came of that is taken from the logs, as it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.client.wire.as_of import iso
from pipeline.engine.ports import TP
from pipeline.model import Aggregate
from pipeline.model.records.step_notes import NOTHING, StepNotes, mark
from pipeline.verify.sources.history import Entry, History, Kept, Stored

OTHER_REVISION = "commands decided before present revisions of states"


def is_unbuilt(history: History, service: str, tp: TP, aggregate: Aggregate[Any, Any, Any]) -> bool:
    """Whether the states of this revision lack what another one has decided. `tp`: of its commands."""
    note = history.steps(service, tp).get(mark(aggregate.states))
    if note is None:
        return aggregate.revision > 1 and bool(history.bound(service, tp))
    return note.at != NOTHING


class DecidedSince:
    """The history without the commands that other code has decided, as if retention had deleted them.

    Those are the ones stored before `since_ms`, or decided before the present revision of an aggregate took their
    partition over. `owners`: the service and the aggregate of each command topic. A command that it had yet to fold is
    decided by present code, and is kept. `left_out`: how many were, by why, of the partitions that were asked for.
    """

    def __init__(
        self, history: History, since_ms: int, owners: Mapping[str, tuple[str, Aggregate[Any, Any, Any]]]
    ) -> None:
        self._history, self._since_ms, self._owners = history, since_ms, owners
        self._lows: dict[TP, int] = {}
        self.left_out: Counter[str] = Counter()
        self._why = f"commands stored before {iso(since_ms)}"

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
        history, (service, aggregate) = self._history, self._owners[tp.topic]
        bound, low = history.bound(service, tp) or 0, history.low(tp)
        note = history.steps(service, tp).get(mark(aggregate.states))
        began = bound if is_unbuilt(history, service, tp, aggregate) else 0 if note is None else note.began
        for entry in history.records(tp) if began or self._since_ms else ():
            if entry.offset >= bound or (entry.time_ms >= self._since_ms and entry.offset >= began):
                break
            self.left_out[self._why if entry.time_ms < self._since_ms else OTHER_REVISION] += 1
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

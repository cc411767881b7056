"""Which revision of an aggregate's states has decided, as the service has noted it beside its offsets."""

from __future__ import annotations

from typing import Any

from pipeline.engine.ports import TP
from pipeline.model import Aggregate
from pipeline.model.records.step_notes import NOTHING, mark
from pipeline.verify.sources.history import History


def is_unbuilt(history: History, service: str, tp: TP, aggregate: Aggregate[Any, Any, Any]) -> bool:
    """Whether the states of this revision lack what another one has decided. `tp`: of its commands."""
    note = history.steps(service, tp).get(mark(aggregate.states))
    if note is None:
        return aggregate.revision > 1 and bool(history.bound(service, tp))
    return note.at != NOTHING


def decided_from(history: History, service: str, tp: TP, aggregate: Aggregate[Any, Any, Any]) -> int:
    """From which command on this revision alone has decided, as far as is noted. `tp`: of its commands."""
    if is_unbuilt(history, service, tp, aggregate):
        return history.bound(service, tp) or 0
    note = history.steps(service, tp).get(mark(aggregate.states))
    return 0 if note is None else note.began

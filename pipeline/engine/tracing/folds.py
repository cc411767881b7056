"""The spans of a lane: of each traced record, of the steps that fold it, and of the transaction that commits them.

A trace is a chain of records. Each carries the header of the span that has caused it, and only a record whose header
says that its trace is sampled gets a span. What is folded in a transaction that is aborted is folded again: its spans
say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.engine.ports import TP, Clock, Record
from pipeline.engine.steps.step import DecidedAt, Step
from pipeline.engine.steps.unique_values import NeedsReservation
from pipeline.engine.tracing.port import Attributes, Kind, Span, Tracer, Value, sampled_of
from pipeline.engine.tracing.producer import TracedProducer
from pipeline.errors import CopyHeld
from pipeline.model import CommandMessage, EventMessage

if TYPE_CHECKING:
    from pipeline.engine.stats import LaneStats

HELD_MAX = 2_000  # spans of one transaction that wait for its end; those of further records end at once
LINKS_MAX = 128  # what exporters take
KEY_CHARACTERS_MAX = 256
WAITS = (NeedsReservation, CopyHeld)  # raised by a step that is to run later, and is no failure


class Folds(Protocol):
    """What folds records: a task, for all of its steps or for those given."""

    tp: TP

    def fold_all(self, records: Sequence[Record], until_s: float, nodes: Sequence[Step] | None = None) -> int: ...
    def level(self) -> Sequence[Step]: ...


class Tracing:
    """The tracer of one lane, and what it traces now."""

    def __init__(
        self, tracer: Tracer, producer: TracedProducer, service: str, group: str, clock: Clock, stats: LaneStats
    ) -> None:
        self._tracer, self._producer, self._clock, self._stats = tracer, producer, clock, stats
        self._service, self._group = service, group
        self._held: list[tuple[Span, int]] = []  # of the open transaction, each with when it was over

    # --- records ------------------------------------------------------------------------------------------------------

    def fold(self, task: Folds, records: Sequence[Record], until_s: float) -> int:
        """Fold records as `fold_all` does: those that are traced each within its span, all others in runs."""
        traced = [n for n, record in enumerate(records) if (told := record.headers()) and sampled_of(told)]
        done = 0
        for n in traced:
            if done < n:
                done += task.fold_all(records[done:n], until_s)
            if done < n or (done and self._clock.monotonic_s() > until_s):
                return done
            before = len(self._held), self._stats.parked, self._producer.traced
            with self.record(task.tp, records[n]) as span:
                assert span is not None, "its header says that it is sampled"
                folded = task.fold_all([records[n]], until_s, [_Traced(node, self, span) for node in task.level()])
                if self._stats.parked > before[1]:
                    span.fail("parked", "Parked")
            if (len(self._held) - 1, self._stats.parked, self._producer.traced) == before:
                self._held.pop()  # nothing is done about such a record here: a span that never ends is not exported
            if not folded:
                return done
            done += 1
        if done < len(records) and (not done or self._clock.monotonic_s() <= until_s):
            done += task.fold_all(records[done:] if done else records, until_s)
        return done

    @contextmanager
    def record(self, tp: TP, record: Record) -> Iterator[Span | None]:
        """Wrap what is done about a record, in a span if it is traced."""
        parent = sampled_of(record.headers())
        if parent is None:
            yield None
            return
        span = self._tracer.start(f"process {tp.topic}", Kind.CONSUMER, self._about(tp, record), parent)
        with self._within(span):
            yield span

    def _about(self, tp: TP, record: Record) -> dict[str, Value]:
        return {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": tp.topic,
            "messaging.destination.partition.id": str(tp.partition),
            "messaging.consumer.group.name": self._group,
            "messaging.kafka.offset": record.offset(),
            "messaging.kafka.message.key": (record.key() or b"").decode(errors="replace")[:KEY_CHARACTERS_MAX],
            "pipeline.service": self._service,
        }

    @contextmanager
    def _within(self, span: Span) -> Iterator[None]:
        """Make a span the cause of what is queued; it is over afterwards, and ends with the transaction."""
        before, self._producer.header = self._producer.header, span.header
        try:
            with span:
                yield
        except BaseException as error:
            if isinstance(error, WAITS):
                span.set({"pipeline.waits": str(error)[:KEY_CHARACTERS_MAX]})
            else:
                span.fail(str(error)[:KEY_CHARACTERS_MAX], type(error).__name__)
            raise
        finally:
            self._producer.header = before
            if len(self._held) < HELD_MAX:
                self._held.append((span, self._tracer.now_ns()))
            else:
                span.end()

    # --- steps --------------------------------------------------------------------------------------------------------

    def step(
        self, step: Step, within: Span, key: bytes, record: Record, message: Any, placed: DecidedAt | None
    ) -> None:
        """Run a step in a span of its own."""
        stats = self._stats
        within.set(_ids(message))
        events, asked, rejected = stats.events, stats.asked, dict(stats.rejected)
        span = self._tracer.start(step.name.replace(":", " ", 1), Kind.INTERNAL, {"pipeline.service": self._service})
        with self._within(span):
            try:
                step.fold(key, record, message, placed)
            except BaseException as error:
                if not isinstance(error, WAITS):
                    within.fail(str(error)[:KEY_CHARACTERS_MAX], type(error).__name__)
                raise
            found: dict[str, Value] = {}
            if isinstance(message, CommandMessage):
                found = {"pipeline.events": stats.events - events, "pipeline.asks": stats.asked - asked}
                reasons = [
                    reason for (name, reason), n in stats.rejected.items() if n > rejected.get((name, reason), 0)
                ]
                if reasons:
                    found["pipeline.rejected"] = reasons[0]
            span.set(found)

    # --- the transaction ----------------------------------------------------------------------------------------------

    def committed(self, began_ns: int) -> None:
        """Note that all is committed, by what began then: its span is linked to all that it has committed."""
        held, self._held = self._held, []
        causes = [span.header for span, _ in held if span.header is not None]
        if causes:
            about: Attributes = {
                "messaging.system": "kafka",
                "messaging.operation.name": "commit",
                "messaging.operation.type": "settle",
                "messaging.consumer.group.name": self._group,
                "messaging.batch.message_count": len(causes),
                "pipeline.service": self._service,
            }
            name = f"commit {self._service}"
            self._tracer.start(name, Kind.INTERNAL, about, causes[0], causes[1 : LINKS_MAX + 1], began_ns).end()
        for span, over_ns in held:
            span.end(over_ns)

    def aborted(self) -> None:
        """Note that nothing of it has happened."""
        held, self._held = self._held, []
        for span, over_ns in held:
            span.set({"pipeline.aborted": True})
            span.end(over_ns)

    def now_ns(self) -> int:
        """Return the time by the clock of spans."""
        return self._tracer.now_ns()


class _Traced(Step):
    """A step that runs in a span."""

    def __init__(self, step: Step, tracing: Tracing, within: Span) -> None:
        self.name, self._step, self._tracing, self._within = step.name, step, tracing, within

    def fold(self, key: bytes, record: Record, message: Any, placed: DecidedAt | None = None) -> None:
        self._tracing.step(self._step, self._within, key, record, message, placed)


def _ids(message: Any) -> dict[str, Value]:
    """What a span says of a command or event."""
    if isinstance(message, CommandMessage):
        name, of = type(message.body).__name__, message.id
    elif isinstance(message, EventMessage):
        name, of = type(message.body).__name__, message.command_id
    else:
        return {"pipeline.message.type": type(message).__name__}
    ids = {"messaging.message.id": of, "messaging.message.conversation_id": message.correlation_id}
    return {"pipeline.message.type": name, **ids}

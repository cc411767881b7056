"""Unique values: no two aggregates have the same, and those that have one, and no others, have it reserved.

In memory: the states of one aggregate, and its reservations. Which value stands behind which reservation only the
service's secret tells; so they are compared by who has them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.model import Aggregate, StateMessage, TopicKind, Unique
from pipeline.model.reservation import Reservation
from pipeline.verify.checks.tables import last_values
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.sources.decode import Decoder, state_decoder
from pipeline.verify.sources.history import History


class UniqueCheck:
    """Judges one `Unique` of an aggregate. While commands are under way, what it finds may be gone a moment later."""

    def __init__(self, service: str, aggregate: Aggregate[Any, Any, Any], unique: Unique, registry: Registry) -> None:
        self._service, self._unique = service, unique
        self._states, self._reserved = aggregate.states, TopicKind.STATE.topic(unique.name)
        self._state = state_decoder(registry, aggregate)
        self._reservation = Decoder(registry, self._reserved, StateMessage, Reservation)

    def __call__(self, history: History, _: int, report: Report) -> None:
        """Report `shared_value`, `unreserved_value` and `unused_value`."""
        owners = Counter(
            body.owner for _, body in self._bodies(history, self._reserved, self._reservation, report) if body.owner
        )
        first: dict[str, str] = {}  # who has a value
        for key, body in self._bodies(history, self._states, self._state, report):
            value = self._unique.value(body)
            if value is None:
                continue
            report.checked["unique values"] += 1
            if first.setdefault(value, key) != key:
                self._find(report, "shared_value", key, "a value of its own", f"that of {first[value]}")
            elif not owners[key]:
                self._find(report, "unreserved_value", key, "a reservation of its value", "none")
            owners[key] -= 1
        for key, more in owners.items():
            if more > 0:
                self._find(report, "unused_value", key, "no more reservations than values", f"{more} more")

    def _bodies(self, history: History, topic: str, decoder: Decoder, report: Report) -> Iterator[tuple[str, Any]]:
        for n in range(history.partitions(topic)):
            for key, (_, value) in last_values(history, TP(topic, n), decoder, self._service, report).items():
                if isinstance(value, StateMessage):
                    yield key, value.body

    def _find(self, report: Report, kind: str, key: str, expected: str, found: str) -> None:
        report.add(Finding(kind, self._service, self._unique.name, 0, key, None, expected, short(found)))

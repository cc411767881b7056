"""Where the sagas of a request stand, by their newest states in the topics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.explain.logs import Logs, Place
from pipeline.explain.steps import Step
from pipeline.model.saga.saga import Summary
from pipeline.topology import Topology


@dataclass(frozen=True, slots=True)
class Instance:
    """A saga's instance. `place`: the record of its state."""

    saga: str
    key: str
    summary: Summary
    place: Place

    def as_json(self) -> dict[str, Any]:
        """Return it for a machine."""
        return {"saga": self.saga, "key": self.key, **self.summary._asdict()}


def sagas_of(logs: Logs, topology: Topology, steps: Iterable[Step]) -> list[Instance]:
    """Return the sagas that have a part in these steps."""
    keys: dict[str, dict[str, None]] = {}
    for step in steps:
        if step.owner.name in topology.sagas:
            keys.setdefault(step.owner.name, {})[step.key] = None
    found = []
    for name, of in keys.items():
        states = logs.states(name, of)
        for key in of:
            if (kept := states.get(key)) and (newest := kept[-1]).message is not None:
                found.append(Instance(name, key, topology.sagas[name].summary(newest.message.body), newest))
    return found

"""What rows hold for open transactions: shown, or left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.adapters.json.writing import row_json
from pipeline.client.wire.read_options import Pending, ReadOptions
from pipeline.errors import NoSuchConsistency
from pipeline.flow import empty
from pipeline.model import Aggregate, Effect, Rejected, StateMessage
from pipeline.model.saga.participant import holds, participants
from pipeline.topology import Topology

Json = dict[str, Any]


class HeldWork:
    """Knows the participants of a topology, and what their rows hold."""

    def __init__(self, topology: Topology) -> None:
        owned = (aggregate for service in topology.services.values() for aggregate in service.owned)
        self._holders = {a.name: a for a in owned if any(participants(a))}

    def check(self, table: str, asked: ReadOptions) -> None:
        """Raise NoSuchConsistency if nothing of a table can be held."""
        if asked.pending is not Pending.SHOW and table not in self._holders:
            raise NoSuchConsistency(
                f"nothing of {table!r} is ever pending: no Participant guards it; leave pending out"
            )

    def show(self, table: str, asked: ReadOptions) -> Callable[[Any], Json]:
        """Return the function that makes JSON of a table's values.

        In the JSON, `pending` lists the transactions for which something is held.
        """
        aggregate = self._holders.get(table)
        if aggregate is None:
            return row_json

        def shown(value: StateMessage) -> Json:
            pending = [hold.transaction for hold in holds(aggregate, value.body)]
            if asked.pending is Pending.HIDE and pending:
                value = value._replace(body=_without(aggregate, value.body))
            return {**row_json(value), "pending": pending}

        return shown


def _without(aggregate: Aggregate[Any, Any, Any], state: Any) -> Any:
    """Return the state without what is held in it."""
    for participant in participants(aggregate):
        if participant.without is not None:
            state = participant.without(state)
            continue
        for hold in participant.ledger(state).holds:
            what = f"what {aggregate.name!r} holds for {hold.transaction!r} cannot be left out"
            try:
                abort = participant.abort(hold.transaction)
            except TypeError as error:
                raise NoSuchConsistency(f"{what}: its Participant needs `without`, as {error}") from error
            decided = empty(aggregate).decide(aggregate.decide, abort, state)
            if isinstance(decided, Rejected):
                raise NoSuchConsistency(f"{what}: its abort is rejected, {decided.reason}")
            for event in decided:
                state = state if isinstance(event, Effect) else aggregate.evolve(state, event)
    return state

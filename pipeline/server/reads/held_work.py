"""What rows hold for open transactions: shown, or left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.adapters.json.writing import row_json
from pipeline.client.wire.read_options import Pending, ReadOptions
from pipeline.errors import NoSuchConsistency
from pipeline.flow import command_to_event, empty, events_to_state
from pipeline.model import Aggregate, CommandMessage, Rejected, StateMessage
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

    def show(self, table: str, asked: ReadOptions) -> Callable[[str, Any], Json]:
        """Return the function that makes JSON of a table's keys and values.

        In the JSON, `pending` lists the transactions for which something is held.
        """
        aggregate = self._holders.get(table)
        if aggregate is None:
            return lambda _, value: row_json(value)

        def shown(key: str, value: StateMessage) -> Json:
            pending = [hold.transaction for hold in holds(aggregate, value.body)]
            if asked.pending is Pending.HIDE and pending:
                value = value._replace(body=_without(aggregate, key, value).body)
            return {**row_json(value), "pending": pending}

        return shown


def _without(aggregate: Aggregate[Any, Any, Any], key: str, state: StateMessage) -> StateMessage:
    """Return the state without what is held in it. What is to abort that was stored when the state was."""
    for participant in participants(aggregate):
        if participant.without is not None:
            state = state._replace(body=participant.without(state.body))
            continue
        for hold in participant.ledger(state.body).holds:
            what = f"what {aggregate.name!r} holds for {hold.transaction!r} cannot be left out"
            try:
                abort = participant.abort(hold.transaction)
            except TypeError as error:
                raise NoSuchConsistency(f"{what}: its Participant needs `without`, as {error}") from error
            command = CommandMessage(hold.transaction, hold.transaction, None, state.time_ms, abort)
            decided = command_to_event(aggregate, key.encode(), state, command, state.time_ms, empty(aggregate))
            if isinstance(decided, Rejected):
                raise NoSuchConsistency(f"{what}: its abort is rejected, {decided.reason}")
            state = events_to_state(aggregate, key.encode(), state, decided[0]) or state
    return state

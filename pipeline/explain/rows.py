"""The rows that the events of a request have changed, as they stand now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.adapters.json.writing import to_json
from pipeline.errors import UndecodableRecord
from pipeline.explain.logs import Logs, Place
from pipeline.explain.steps import Step, events_of
from pipeline.flow import event_to_messages
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import Projection, Replica, Service, Source
from pipeline.topology import Topology


@dataclass(slots=True)
class Row:
    """A row of a projection or replica, and the steps whose events it has in it. `number` goes on behind the steps'.

    `place`: its newest record; None if it has none, as a replica's row, which each worker makes of the events.
    """

    service: str
    table: str
    key: str
    source: str
    is_replica: bool
    causes: list[Step]
    place: Place | None = None
    number: int = 0

    @property
    def fields(self) -> Any:
        """What the row says, as JSON; None if it was deleted or has no record."""
        return None if self.place is None or self.place.message is None else to_json(self.place.message)


def rows_of(logs: Logs, topology: Topology, steps: list[Step]) -> list[Row]:
    """Return the rows of all projections and replicas that follow the events of these steps."""
    rows: dict[tuple[str, str], Row] = {}
    for service in topology.services.values():
        for projection in service.projections:
            for source in projection.sources:
                _follow(logs, service, projection, source, steps, rows)
            found = [row for (table, _), row in rows.items() if table == projection.name]
            places = logs.rows(projection.name, type(projection.initial), [row.key for row in found]) if found else {}
            for row in found:
                row.place = places.get(row.key)
        for replica in service.replicas:
            _follow(logs, service, replica, replica.source, steps, rows)
    for number, row in enumerate(rows.values(), len(steps) + 1):
        row.number = number
    return list(rows.values())


def _follow(
    logs: Logs,
    service: Service,
    table: Projection[Any, Any] | Replica[Any, Any],
    source: Source,
    steps: list[Step],
    rows: dict[tuple[str, str], Row],
) -> None:
    events = [(step, event) for step, event in events_of(steps) if event.tp.topic == source.topic]
    decoder = logs.as_followed(source) if events else None
    for step, event in events:
        assert decoder is not None
        try:
            read = decoder.read(event.entry)
            keys = [] if read is None else _keys(table, source, *read)
        except UndecodableRecord:
            continue  # it is parked there, and in no row
        except BaseException as error:
            if not is_topologys(error):
                raise
            continue  # likewise
        for key in dict.fromkeys(keys):
            is_replica = isinstance(table, Replica)
            row = rows.setdefault((table.name, key), Row(service.name, table.name, key, source.topic, is_replica, []))
            if step not in row.causes:
                row.causes.append(step)


def _keys(table: Projection[Any, Any] | Replica[Any, Any], source: Source, key: str, event: Any) -> list[str]:
    if isinstance(table, Replica) or table.route is None:
        return [key]
    return [row_key for row_key, _ in event_to_messages(table, source.topic, key, event)]

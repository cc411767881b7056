"""A service whose messages, states and rows have every type that the codec knows; its schemas are written by the test.

Messages are dataclasses; rows of one projection are named tuples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import Aggregate, Database, Projection, Rejected, Service
from pipeline.adapters.avro.registry import Registry
from pipeline.topology import Topology

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    x: float = 0.0
    type: str = ""  # a field of that name takes the place of the class's name in JSON


class Label(NamedTuple):
    text: str
    at: int = 0


NO_LABEL = Label("")


@dataclass(frozen=True, slots=True)
class All:
    """`text` and others are of one type each; the last ones lie in one another."""

    text: str = ""
    data: bytes = b""
    code: bytes = b"\0\0"
    colour: str = "RED"
    flag: bool = False
    small: int = 0
    large: int = 0
    narrow: float = 0.0
    wide: float = 0.0
    at: int = 0  # the last four stand for a time, a day, an amount and an id
    day: int = 0
    price: bytes = b"\0"
    ref: str = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    maybe: float | None = None
    either: str | bytes | int | None = None
    shape: Point | Label | None = None
    named: Label = NO_LABEL
    points: tuple[Point, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    mixed: Label | dict[str, bytes] = NO_LABEL


@dataclass(frozen=True, slots=True)
class Put:
    all: All


@dataclass(frozen=True, slots=True)
class PutNothing:
    type: str


@dataclass(frozen=True, slots=True)
class Stored:
    all: All


class Marked(NamedTuple):
    type: str


class Seen(NamedTuple):
    narrow: float = 0.0
    all: All = All()


def record(name: str, **fields: Any) -> Json:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def command(*bodies: Any) -> Json:
    envelope: Json = {"id": "string", "correlation_id": "string", "causation_id": ["null", "string"]}
    envelope |= {"issued_ms": "long", "body": list(bodies), "expected_version": ["null", "long"]}
    return record("Command", **envelope, reply_to=["null", "string"], due_ms=["null", "long"])


def event(*bodies: Any) -> Json:
    envelope = {"version": "long", "command_id": "string", "correlation_id": "string", "time_ms": "long"}
    return record("Event", **envelope, body=list(bodies))


def state(body: Any) -> Json:
    return record("State", version="long", time_ms="long", body=body)


def register(directory: Path, schemas: Mapping[str, Json]) -> Path:
    """Writes schemas by topic, and their manifest."""
    directory.mkdir(exist_ok=True)
    for topic, schema in schemas.items():
        (directory / f"{topic}.avsc").write_text(json.dumps(schema))
    Registry(directory).register()
    return directory


def all_schema() -> Json:
    """That of All. A copy for each topic."""
    point, label = record("Point", x="double", type="string"), record("Label", text="string", at="long")
    return record(
        "All",
        text="string",
        data="bytes",
        code={"type": "fixed", "name": "Code", "size": 2},
        colour={"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]},
        flag="boolean",
        small="int",
        large="long",
        narrow="float",
        wide="double",
        at={"type": "long", "logicalType": "timestamp-millis"},
        day={"type": "int", "logicalType": "date"},
        price={"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
        ref={"type": "string", "logicalType": "uuid"},
        maybe=["null", "double"],
        either=["null", "long", "bytes", "string"],
        shape=["null", point, label],
        named="Label",
        points={"type": "array", "items": "Point"},
        weights={"type": "map", "values": "float"},
        mixed=["Label", {"type": "map", "values": "bytes"}],
    )


def decide(command: Put | PutNothing, state: All) -> list[object] | Rejected:
    match command:
        case Put(value):
            return [Stored(value)]
        case PutNothing("nothing"):
            return Rejected("nothing")
        case PutNothing("event is no number"):
            return [Stored(All(wide=math.nan))]
        case PutNothing("other numbers"):
            wide: Any = Decimal("0.1")
            return [Stored(All(narrow=0.1, wide=wide, maybe=1, weights={"a": 0.7}))]
    return [Marked(command.type)]


def evolve(state: All, event: Stored | Marked) -> All:
    if isinstance(event, Marked) and event.type == "state is no number":
        return All(points=(Point(math.inf),))
    return replace(event.all, narrow=state.narrow + event.all.narrow) if isinstance(event, Stored) else state


def see(row: Seen, event: Stored | Marked) -> Seen:
    if isinstance(event, Marked) and event.type == "row is no number":
        return Seen(math.nan)
    return Seen(row.narrow + 0.1, event.all) if isinstance(event, Stored) else row


def topology(directory: Path, database: Database = Database.ROCKSDB) -> Topology:
    """The service `everything`: the aggregate `alls`, the projections `seen` and `kept`."""
    schemas = {
        "alls.command": command(record("Put", all=all_schema()), record("PutNothing", type="string")),
        "alls.event": event(record("Stored", all=all_schema()), record("Marked", type="string")),
        "alls.state": state(all_schema()),
        "seen.row": record("Seen", narrow="float", all=all_schema()),
        "kept.row": all_schema(),
    }
    alls = Aggregate(
        "alls", command=Put | PutNothing, event=Stored | Marked, initial=All(), decide=decide, evolve=evolve
    )
    seen = Projection("seen", [alls.events], Seen(), see, database=database)
    kept = Projection(
        "kept", [alls.events], All(), lambda row, e: e.all if isinstance(e, Stored) else row, database=database
    )
    service = Service("everything", aggregates=[alls], projections=[seen, kept])
    return Topology("everything", {"everything": service}, register(directory, schemas))

"""Rows, events and commands as a client returns them, as instances of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from pipeline.adapters.json.reading import read_back
from pipeline.model import Token

C = TypeVar("C")
E = TypeVar("E")
R = TypeVar("R")
S = TypeVar("S")

Json = Mapping[str, Any]
NOWHERE = Token()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(time_ms: int | None) -> datetime | None:
    """Return milliseconds since the epoch as a time in UTC."""
    return None if time_ms is None else EPOCH + timedelta(milliseconds=time_ms)


@dataclass(frozen=True, slots=True)
class Row(Generic[R]):
    """A row of a table. `row`: an instance of the table's class; of a watch also None, if the row is deleted.

    `position`: the token of the table's position, for `at_least` of later reads; of several rows in one answer, what
    all of them contain; empty if the answer has none. `version`, `time_ms`: of an aggregate or saga, its version and
    the time of its last event in milliseconds since the epoch; else None. `age`: of an eventual read, for how many
    seconds the row may have been outdated; else None, and if it is not known. `pending`: the transactions for which
    something is held in it.
    """

    key: str
    row: R
    position: Token = NOWHERE
    version: int | None = None
    time_ms: int | None = None
    age: float | None = None
    pending: tuple[str, ...] = ()

    @property
    def time(self) -> datetime | None:
        """`time_ms` in UTC."""
        return moment(self.time_ms)


@dataclass(frozen=True, slots=True)
class PastEvent(Generic[E]):
    """An event of an aggregate, from its history. `version`: the aggregate's after it.

    `event`: None if it is an old one that means nothing any more. `read`: the token of the copies that its decision has
    read; None if it has read none.
    """

    version: int
    time_ms: int
    command_id: str
    correlation_id: str
    event: E | None
    read: Token | None = None

    @property
    def time(self) -> datetime:
        """`time_ms` in UTC."""
        return EPOCH + timedelta(milliseconds=self.time_ms)


@dataclass(frozen=True, slots=True)
class Due(Generic[C]):
    """A command that is still to come. `kind`: "deadline", or "scheduled" with the command's id as its name.

    `due_ms`: None once it has been sent.
    """

    kind: str
    name: str
    due_ms: int | None
    command_id: str
    correlation_id: str
    command: C

    @property
    def time(self) -> datetime | None:
        """`due_ms` in UTC."""
        return moment(self.due_ms)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an instance of a saga stands. `status`: "running", "done", …; `step`: the one under way, or empty.

    `waits_for`: requests to others without a reply so far. `reason`: why it is undone or retried. `blocks`: what is
    locked for others meanwhile. `since`: the time of its last event.
    """

    saga: str
    key: str
    status: str
    step: str
    attempt: int
    waits_for: tuple[str, ...]
    reason: str
    blocks: tuple[str, ...]
    since: datetime


@dataclass(frozen=True, slots=True)
class Instance(Standing, Generic[S]):
    """An instance of a saga: where it stands, its version, and its state."""

    version: int
    state: S


def row_of(table: str, cls: object, told: Json) -> Row[Any]:
    """Return a row of JSON, of a table whose rows are of the class `cls`. Raises UnfitValue."""
    key, row = told["key"], told["row"]
    return Row(
        key,
        None if row is None else read_back(cls, row, f"the row {key!r} of {table!r}"),
        told.get("position", NOWHERE),
        told.get("version"),
        told.get("time_ms"),
        told.get("age_s"),
        tuple(told.get("pending", ())),
    )


def event_of(aggregate: str, hint: object, told: Json) -> PastEvent[Any]:
    """Return an event of JSON, of an aggregate whose events are of these classes. Raises UnfitValue."""
    version, event, read = told["version"], told["event"], told.get("read")
    where = f"the event at version {version} of {aggregate!r}"
    return PastEvent(
        version,
        told["time_ms"],
        told["command_id"],
        told["correlation_id"],
        None if event is None else read_back(hint, event, where, tagged=True),
        None if read is None else Token(read),
    )


def due_of(aggregate: str, hint: object, told: Json) -> Due[Any]:
    """Return what is due from JSON, of an aggregate whose commands are of these classes. Raises UnfitValue."""
    command = read_back(hint, told["command"], f"a command due for {aggregate!r}", tagged=True)
    return Due(told["kind"], told["name"], told["due_ms"], told["command_id"], told["correlation_id"], command)


def standing_of(told: Json) -> Standing:
    """Return where an instance stands, of JSON."""
    return Standing(**_standing(told))


def instance_of(cls: object, told: Json) -> Instance[Any]:
    """Return an instance of JSON, of a saga whose states are of the class `cls`. Raises UnfitValue."""
    state = read_back(cls, told["state"], f"the state of {told['saga']} {told['key']!r}")
    return Instance(**_standing(told), version=told["version"], state=state)


def _standing(told: Json) -> dict[str, Any]:
    found = {field.name: told[field.name] for field in fields(Standing)}
    lists = {"waits_for": tuple(told["waits_for"]), "blocks": tuple(told["blocks"])}
    return {**found, **lists, "since": datetime.fromisoformat(told["since"])}

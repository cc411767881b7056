"""The unique values of an aggregate's states: reserved before they are taken, released when no state has them any more.

The aggregate's step raises `NeedsReservation` before its first effect. The record then waits, as a parked one does, and
its reservation is sent; the reply to it arrives on the aggregate's own command topic. See flow/waiting.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.flow import place_of, reservation_id
from pipeline.model import CommandMessage, StateMessage, Unique
from pipeline.model.reservation import Release, Reserve
from pipeline.model.unique import reservation_key

Emit = Callable[[str, bytes, bytes, int], object]


class Reservations(NamedTuple):
    """Where the values of one `Unique` are reserved: its command topic, and how its commands are written."""

    unique: Unique
    topic: str
    encode: Callable[[Any], bytes]


Values = Mapping[str, tuple[Reservations, str]]  # by how they are told; with the key that they are reserved under


class NeedsReservation(Exception):
    """A command takes a value that is not reserved for it. `topic`, `key`, `value`: the command that reserves it."""

    def __init__(self, name: str, topic: str, key: bytes, value: bytes) -> None:
        super().__init__(f"a value is being reserved in {name}")
        self.topic, self.key, self.value = topic, key, value


class Change(NamedTuple):
    """What a command at `place` makes of the values of an aggregate: what it `had`, and what it has `now`."""

    owner: str  # the aggregate's id
    place: str
    message: CommandMessage
    had: Values
    now: Values
    reserved: Sequence[str]

    def causes(self, name: str, body: Reserve | Release) -> CommandMessage:
        """A command to a reservation, known by that name."""
        message, command_id = self.message, reservation_id(self.place, name)
        return CommandMessage(command_id, message.correlation_id, self.place, message.issued_ms, body)


class UniqueValues:
    """Compares the values before and after a command. A value is told by `<name of the Unique>/<reservation key>`."""

    def __init__(
        self, declared: Sequence[Reservations], initial: Any, secret: bytes, topic: str, partition: int, emit: Emit
    ) -> None:
        self._declared = {reservations.unique.name: reservations for reservations in declared}
        self._initial, self._secret, self._emit = initial, secret, emit
        self._topic, self._partition = topic, partition
        self._read = [reservations.unique.value for reservations in declared]

    def touched(self, before: StateMessage | None, after: StateMessage | None) -> bool:
        """Whether any value changes; most commands leave all of them alone."""
        if before is after:
            return False
        old, new = (self._initial if state is None else state.body for state in (before, after))
        return any(value(old) != value(new) for value in self._read)

    def check_and_release(
        self,
        key: bytes,
        offset: int,
        message: CommandMessage,
        before: StateMessage | None,
        after: StateMessage | None,
        reserved: Sequence[str],
    ) -> None:
        """Raise NeedsReservation if a value after the command is neither that from before nor `reserved`.

        Else gives up what the aggregate had, or had reserved, and has no more.
        """
        place = place_of(self._topic, self._partition, offset)
        change = Change(key.decode(), place, message, self._values(before), self._values(after), reserved)
        self._check(change)
        self._release(change)

    def _check(self, change: Change) -> None:
        for claim, (reservations, value_key) in change.now.items():
            if claim not in change.had and claim not in change.reserved:
                command = change.causes(claim, Reserve(change.owner))
                command = command._replace(reply_to=f"{self._topic}/{self._partition}/{change.owner}")
                value = reservations.encode(command)
                raise NeedsReservation(reservations.unique.name, reservations.topic, value_key.encode(), value)

    def _release(self, change: Change) -> None:
        for claim in dict.fromkeys([*change.had, *change.reserved]):
            name, _, value_key = claim.partition("/")
            if claim not in change.now and name in self._declared:
                reservations = self._declared[name]
                command = change.causes(f"{claim}/release", Release(change.owner))
                self._emit(reservations.topic, value_key.encode(), reservations.encode(command), -1)

    def _values(self, state: StateMessage | None) -> Values:
        return dict(self._pairs(self._initial if state is None else state.body))

    def _pairs(self, body: Any) -> Iterator[tuple[str, tuple[Reservations, str]]]:
        for name, reservations in self._declared.items():
            value = reservations.unique.value(body)
            if value is not None:
                value_key = reservation_key(self._secret, value)
                yield f"{name}/{value_key}", (reservations, value_key)

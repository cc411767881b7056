"""The unique values of an aggregate's states: reserved before they are taken, released when nobody has them any more.

The node of the aggregate raises `Unreserved` before its first effect; the task puts the record aside, sends the command
that reserves, and takes the record up again when that is answered, on the aggregate's own command topic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.model import CommandMessage, StateMessage, Unique
from pipeline.model.reservation import Release, Reserve
from pipeline.model.unique import reservation_key

Emit = Callable[[str, bytes, bytes, int], object]


class Reservations(NamedTuple):
    """Where the values of one `Unique` are reserved: its command topic, and how its commands are written."""

    unique: Unique
    topic: str
    encode: Callable[[Any], bytes]


class Unreserved(Exception):
    """A command takes a value that is not reserved for it. `topic`, `key`, `value`: the command that reserves it."""

    def __init__(self, name: str, topic: str, key: bytes, value: bytes) -> None:
        super().__init__(f"a value is being reserved in {name}")
        self.topic, self.key, self.value = topic, key, value


def reserved_by(place: str, command_id: str) -> str | None:
    """What an answer to `command_id` has reserved, or refused, for the command at `place`; None where for another."""
    prefix = f"{place}/"
    return command_id.removeprefix(prefix) if command_id.startswith(prefix) else None


class Claims:
    """Compares the values before and after a command. A value is told by `<name of the Unique>/<reservation key>`."""

    def __init__(
        self, declared: Sequence[Reservations], initial: Any, secret: bytes, topic: str, partition: int, emit: Emit
    ) -> None:
        self._declared = {reservations.unique.name: reservations for reservations in declared}
        self._initial, self._secret, self._emit = initial, secret, emit
        self._topic, self._partition = topic, partition
        self._read = [reservations.unique.value for reservations in declared]

    def place(self, offset: int) -> str:
        """How the command at that offset is told in ids and causes."""
        return f"{self._topic}/{self._partition}/{offset}"

    def touched(self, before: StateMessage | None, after: StateMessage | None) -> bool:
        """Whether any value changes; most commands leave all of them alone."""
        if before is after:
            return False
        old, new = (self._initial if state is None else state.body for state in (before, after))
        return any(value(old) != value(new) for value in self._read)

    def check(
        self,
        key: bytes,
        offset: int,
        message: CommandMessage,
        before: StateMessage | None,
        after: StateMessage | None,
        reserved: Sequence[str],
    ) -> None:
        """Raises Unreserved where a value after the command is neither that from before nor `reserved`."""
        has = {*self._values(before), *reserved}
        for claim, (reservations, value_key) in self._values(after).items():
            if claim not in has:
                place = self.place(offset)
                reply_to = f"{self._topic}/{self._partition}/{key.decode()}"
                command = CommandMessage(
                    f"{place}/{claim}",
                    message.correlation_id,
                    place,
                    message.issued_ms,
                    Reserve(key.decode()),
                    reply_to=reply_to,
                )
                name = reservations.unique.name
                raise Unreserved(name, reservations.topic, value_key.encode(), reservations.encode(command))

    def release(
        self,
        key: bytes,
        offset: int,
        message: CommandMessage,
        before: StateMessage | None,
        after: StateMessage | None,
        reserved: Sequence[str],
    ) -> None:
        """Gives up what the aggregate had, or had reserved, and has no more."""
        now = self._values(after)
        for claim in dict.fromkeys([*self._values(before), *reserved]):
            name, _, value_key = claim.partition("/")
            if claim not in now and name in self._declared:
                reservations, place = self._declared[name], self.place(offset)
                command = CommandMessage(
                    f"{place}/{claim}/release", message.correlation_id, place, message.issued_ms, Release(key.decode())
                )
                self._emit(reservations.topic, value_key.encode(), reservations.encode(command), -1)

    def _values(self, state: StateMessage | None) -> Mapping[str, tuple[Reservations, str]]:
        return dict(self._pairs(self._initial if state is None else state.body))

    def _pairs(self, body: Any) -> Iterator[tuple[str, tuple[Reservations, str]]]:
        for name, reservations in self._declared.items():
            value = reservations.unique.value(body)
            if value is not None:
                value_key = reservation_key(self._secret, value)
                yield f"{name}/{value_key}", (reservations, value_key)

"""The queues of a source partition, told from the notices alone: which record was folded when, and by which nodes.

In memory: what waits, and the notices of one service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pipeline.verify.replay.notices import DISCARDED, PARKED, SENT, Act


class Held(NamedTuple):
    """A record that waits. `record`: whatever the judge calls one."""

    offset: int
    record: Any
    done: tuple[str, ...]
    new: bool  # whether it is a command whose id was not answered when it came


class Folded(NamedTuple):
    """A record that a node has folded; `act`: where it had waited, what took it up again."""

    record: Any
    act: Act | None


class ParkedReplay:
    """Takes the records of a partition in the order of their log. `wrong` says what cannot have been so."""

    def __init__(self, acts: Iterable[Act], *, complete: bool = True) -> None:
        self.complete = complete  # whether none of the notices is gone
        self.held: dict[bytes, list[Held]] = {}
        self.wrong: list[str] = []
        self.opened: dict[int, Act] = {}  # records that were put aside when they came, and not met yet
        self._later: list[Act] = []
        for act in acts:
            if act.at is not None:
                self._later.append(act)
            elif act.offset in self.opened:
                self.wrong.append(f"offset {act.offset} was parked twice when it came")
            else:
                self.opened[act.offset] = act
        self._later.sort(key=lambda act: act.at or 0)  # stable: those of one key stay in their order
        self._next = 0
        self._taken: set[tuple[bytes, int]] = set()
        self._deferred: dict[bytes, tuple[int, list[Held]]] = {}
        self.beside: set[bytes] = set()  # keys that were parked for a node that was built
        self._first: dict[int, bytes] = {}  # keys, by the offset of the first that waits

    def wait(self, key: bytes, held: Held) -> None:
        """A record goes to the end of its key's queue."""
        waiting = self.held.setdefault(key, [])
        waiting.append(held)
        self._first[waiting[0].offset] = key

    def take(self, key: bytes) -> None:
        """The first of a key waits no longer."""
        waiting = self.held[key]
        held = waiting.pop(0)
        del self._first[held.offset]
        self._taken.add((key, held.offset))
        if waiting:
            self._first[waiting[0].offset] = key
        else:
            del self.held[key]
            self.beside.discard(key)

    def defer(self, key: bytes, until: int, held: Held) -> None:
        """A record was parked for a node that was built. Others have to wait behind it from the offset `until` on."""
        self._deferred.setdefault(key, (until, []))[1].append(held)

    def is_deferred(self, key: bytes) -> bool:
        """Whether a key waits for a node that is built, and for no other yet."""
        return key in self._deferred

    def let_in(self, before: int | None) -> None:
        """Have all wait behind what was parked for a node that was built, if it was by the time of that offset."""
        for key, (until, waiting) in list(self._deferred.items()):
            if before is None or before >= until:
                del self._deferred[key]
                if key in self.held:
                    del self._first[self.held[key][0].offset]
                self.held[key] = sorted([*waiting, *self.held.get(key, [])], key=lambda held: held.offset)
                self._first[self.held[key][0].offset] = key
                self.beside.add(key)

    def stops(self, offset: int, at: int) -> bool:
        """Whether a record that has waited was parked anew when its turn came there."""
        return any(act.offset == offset and act.at == at and act.action == PARKED for act in self._later)

    def has_taken(self, key: bytes, offset: int) -> bool:
        """Whether a record has waited, and waits no more."""
        return (key, offset) in self._taken

    def due(self, before: int | None) -> Iterator[tuple[Act, bytes, Held]]:
        """What was done about queues before the record of that offset was folded; None: all that is left."""
        while self._next < len(self._later):
            act = self._later[self._next]
            if before is not None and (act.at or 0) >= before:
                return
            self._next += 1
            if act.offset not in self._first:
                self.wrong.append(f"offset {act.offset} was {act.action}, though it did not wait first of its key")
                continue
            key = self._first[act.offset]
            waiting = self.held[key]
            held = waiting[0]
            if act.action == PARKED:
                waiting[0] = held._replace(done=act.done)
            else:
                self.take(key)
            yield act, key, held


def folded_by(
    node: str,
    queues: ParkedReplay,
    records: Iterable[Any],
    place: Callable[[Any], tuple[bytes, int]],
    follows: Callable[[Any], bool | None],
    joined: float = 0,
) -> Iterator[Folded]:
    """Yield what a node has folded, in its order. Not for commands, as they may be answered at once.

    `place(record)`: key and offset. `follows(record)`: None if it cannot be read, False if nothing folds it. `joined`:
    where the node began to fold with the others; what had been discarded before, it has folded.
    """

    def again(before: int | None) -> Iterator[Folded]:
        for act, _, held in queues.due(before):
            now_done = act.action not in (PARKED, DISCARDED, SENT) or node in act.done
            now_done |= act.action == DISCARDED and (act.at or 0) < joined
            if node not in held.done and now_done and follows(held.record):
                yield Folded(held.record, act)

    for record in records:
        key, offset = place(record)
        queues.let_in(offset)
        yield from again(offset)
        opened, followed = queues.opened.pop(offset, None), follows(record)
        if opened is not None and opened.beside is not None:
            if node in opened.done:
                if followed:
                    yield Folded(record, None)
                queues.defer(key, opened.beside, Held(offset, record, opened.done, new=True))
            else:
                queues.wait(key, Held(offset, record, opened.done, new=True))
                queues.beside.add(key)
        elif key in queues.held:
            if opened is not None and key not in queues.beside:
                queues.wrong.append(f"offset {offset} was parked when it came, though it had to wait behind others")
            if followed is not False:
                queues.wait(key, Held(offset, record, () if opened is None else opened.done, new=True))
        elif opened is not None:
            if followed and node in opened.done:
                yield Folded(record, None)
            queues.wait(key, Held(offset, record, opened.done, new=True))
        elif followed:
            yield Folded(record, None)
            if queues.is_deferred(key):
                queues.defer(key, 0, Held(offset, record, (node,), new=True))
        elif followed is None:
            queues.wrong.append(f"offset {offset} cannot be read, but was not parked")
    queues.let_in(None)
    yield from again(None)

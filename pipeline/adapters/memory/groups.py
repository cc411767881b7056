"""The coordinator of a group: members, generations, sessions, the range assignor, and stable committed offsets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from pipeline.adapters.memory.log import Transaction
from pipeline.engine.ports import TP, Position, Positions

if TYPE_CHECKING:
    from pipeline.adapters.memory.kafka import MemoryKafka

SESSION_S = 6.0


class Standing(Enum):
    """The coordinator's reply to a member's heartbeat."""

    STABLE = auto()
    REBALANCING = auto()  # the member must join again
    UNKNOWN = auto()  # expelled
    FENCED = auto()  # another member has joined with the same static name


class Membership(NamedTuple):
    """Proof of membership in a generation."""

    group: str
    member: int
    generation: int


@dataclass(slots=True)
class Member:
    """One member. `held`: partitions that were assigned to it and that it has not given back."""

    number: int
    instance: str
    topics: Sequence[str]
    incremental: bool
    joined: bool = True
    generation: int = 0
    assignment: list[TP] = field(default_factory=list)
    held: set[TP] = field(default_factory=set)
    silent_since_s: float | None = None


class Group:
    """A group, and its committed offsets."""

    def __init__(self, name: str, kafka: MemoryKafka) -> None:
        self.name, self._kafka = name, kafka
        self.generation = 0
        self.stable = True
        self.members: dict[int, Member] = {}
        self.offsets: dict[TP, Position] = {}
        self.owners: dict[TP, tuple[str, ...]] = {}  # the producer of each last commit, and whom it noted
        self._pending: dict[Transaction, dict[TP, Position]] = {}
        self._replaced: set[int] = set()
        self._numbers = 0

    # --- membership ---------------------------------------------------------------------------------------------------

    def join(self, instance: str, topics: Sequence[str], *, incremental: bool) -> int:
        """Add a member; return its number. A static one that returns changes nothing while the group is stable."""
        self._numbers += 1
        member = Member(self._numbers, instance, topics, incremental)
        old = next((m for m in self.members.values() if instance and m.instance == instance), None)
        if old is not None:
            del self.members[old.number]
            self._replaced.add(old.number)
            if self.stable:
                member.assignment, member.generation = old.assignment, self.generation
                member.held = set(member.assignment)
        self.members[member.number] = member
        if old is None or not self.stable:
            self.rebalance(joined=member)
        elif old.held - member.held:  # it has died with partitions that others wait for
            self.rebalance()
        return member.number

    def standing(self, number: int) -> Standing:
        """Return how the coordinator sees that member."""
        member = self.members.get(number)
        if member is None:
            return Standing.FENCED if number in self._replaced else Standing.UNKNOWN
        return Standing.STABLE if self.stable or member.joined else Standing.REBALANCING

    def rebalance(self, joined: Member | None = None) -> None:
        """Start a rebalance: all members must join again, except the one that just has."""
        if self.stable:
            self.stable = False
            for member in self.members.values():
                member.joined = False
        if joined is not None:
            joined.joined = True
        self._complete()

    def rejoin(self, number: int, held: Iterable[TP]) -> None:
        """Note that a member is ready for the next generation; it keeps the partitions it holds."""
        member = self.members[number]
        member.held, member.joined = set(held), True
        self._complete()

    def leave(self, number: int) -> None:
        """Remove a member that leaves or is expelled."""
        if self.members.pop(number, None) is not None:
            self.rebalance()

    def silence(self, number: int) -> None:
        """Stop a member's heartbeats; it is expelled after a session time-out."""
        if member := self.members.get(number):
            since = member.silent_since_s = self._kafka.clock.now_s
            self._kafka.clock.later(SESSION_S, lambda: self._expire(number, since))

    def beat(self, number: int) -> None:
        """Resume a member's heartbeats."""
        if member := self.members.get(number):
            member.silent_since_s = None

    def _expire(self, number: int, since_s: float) -> None:
        member = self.members.get(number)
        if member is not None and member.silent_since_s == since_s:
            self.leave(number)

    def _complete(self) -> None:
        """Start the next generation once all have joined."""
        if self.stable or not all(member.joined for member in self.members.values()):
            return
        self.generation += 1
        self.stable = True
        targets = self._range()
        for member in self.members.values():
            others = {tp for m in self.members.values() if m is not member for tp in m.held}
            # A partition that another member has not given back yet is not assigned: that member's next join brings it.
            member.assignment = [tp for tp in targets[member.number] if tp not in others]
            member.generation = self.generation
        for member in self.members.values():
            member.held |= set(member.assignment)
        self._kafka.changed(self.name)

    def _range(self) -> dict[int, list[TP]]:
        """Split each topic's partitions into equal ranges, by the order of the members' names."""
        targets: dict[int, list[TP]] = {number: [] for number in self.members}
        for topic in sorted({topic for member in self.members.values() for topic in member.topics}):
            members = [m for m in self.members.values() if topic in m.topics]
            members.sort(key=lambda m: (m.instance, m.number))
            count = self._kafka.facts(topic).partitions
            each, more = divmod(count, len(members))
            at = 0
            for n, member in enumerate(members):
                share = each + (n < more)
                targets[member.number] += [TP(topic, p) for p in range(at, at + share)]
                at += share
        return targets

    # --- offsets ------------------------------------------------------------------------------------------------------

    def refuses(self, membership: Membership) -> str | None:
        """Return why that member may not commit, or None."""
        member = self.members.get(membership.member)
        if member is None:
            return "the coordinator does not know this member"
        if membership.generation != self.generation:
            return "the group has gone on to another generation"
        return None

    def hold(self, transaction: Transaction, offsets: Positions) -> None:
        """Add positions whose transaction is not decided yet."""
        self._pending.setdefault(transaction, {}).update(offsets)

    def release(self, transaction: Transaction) -> None:
        """Apply the outcome of a transaction."""
        offsets = self._pending.pop(transaction)
        if transaction.outcome == "commit":
            self.offsets |= offsets
            for tp, position in offsets.items():
                self.owners[tp] = position.unended if position.leaves else (transaction.name, *position.unended)

    def committed(self, tps: Sequence[TP]) -> dict[TP, Position | None] | None:
        """Return committed offsets; None as long as a transaction may change one of them."""
        if any(tp in offsets for offsets in self._pending.values() for tp in tps):
            return None
        return {tp: self.offsets.get(tp) for tp in tps}

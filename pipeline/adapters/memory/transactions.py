"""The coordinator of transactions: epochs fence; an outcome is decided at once and reaches each log by a marker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.adapters.memory.log import Headers, PartitionLog, Transaction
from pipeline.engine.ports import TP, Positions
from pipeline.errors import LaneFatal, TransactionAborted

if TYPE_CHECKING:
    from pipeline.adapters.memory.groups import Membership
    from pipeline.adapters.memory.kafka import MemoryKafka

TRANSACTION_S = 60.0


@dataclass(slots=True)
class Identity:
    """One transactional id: its present epoch, and its last transaction."""

    epoch: int = 0
    transaction: Transaction | None = None

    @property
    def busy(self) -> bool:
        """Whether the last transaction's markers are still on their way, so that no other may begin."""
        return self.transaction is not None and self.transaction.outcome != "open" and self.transaction.unmarked > 0


class Transactions:
    """All transactional producers of the cluster."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka
        self._identities: dict[str, Identity] = {}

    def join(self, name: str) -> int:
        """Let a new producer take an id; fence earlier ones and abort their open transaction. Return its epoch."""
        identity = self._identities.setdefault(name, Identity())
        self.fence(name)
        return identity.epoch

    def fence(self, name: str) -> None:
        """Fence the present user of the id; abort its open transaction."""
        identity = self._identities[name]
        identity.epoch += 1
        if identity.transaction is not None and identity.transaction.outcome == "open":
            self._decide(identity.transaction, "abort")

    def busy(self, name: str) -> bool:
        """Return whether the producer must wait before it can write again."""
        return self._identities[name].busy

    def is_fenced(self, name: str, epoch: int) -> bool:
        """Return whether that epoch of the id is over."""
        return self._identities[name].epoch != epoch

    def _current(self, name: str, epoch: int) -> Transaction:
        """Return the open transaction; begin one if there is none. Raises LaneFatal if fenced."""
        identity = self._identities[name]
        if identity.epoch != epoch:
            raise LaneFatal(f"the producer {name} is fenced: another has taken its id, or its transaction timed out")
        if identity.transaction is None or identity.transaction.outcome != "open":
            begun = identity.transaction = Transaction(name, self._kafka.clock.now_s)
            self._kafka.clock.later(TRANSACTION_S, lambda: self._time_out(name, begun))
        return identity.transaction

    def _time_out(self, name: str, transaction: Transaction) -> None:
        if transaction.outcome == "open":
            self._kafka.timed_out(name)
            self.fence(name)

    def append(
        self, name: str, epoch: int, log: PartitionLog, key: bytes | None, value: bytes | None, headers: Headers
    ) -> int:
        """Store a record in the open transaction. Return its offset."""
        transaction = self._current(name, epoch)
        return log.append(key, value, self._kafka.clock.time_ms(), headers, transaction)

    def add_offsets(self, name: str, epoch: int, offsets: Positions, membership: Membership | None) -> None:
        """Join positions to the transaction. Raises TransactionAborted if the group refuses the member.

        Without a membership the group is not asked: Kafka takes offsets from a producer outside a group.
        """
        transaction = self._current(name, epoch)
        if membership is None:
            return
        group = self._kafka.group(membership.group)
        if why := group.refuses(membership):
            raise TransactionAborted(f"the transaction cannot be committed: {why}")
        if offsets:
            transaction.offsets.setdefault(group.name, {}).update(offsets)
            group.hold(transaction, offsets)

    def end(self, name: str, epoch: int, *, commit: bool) -> None:
        """Decide the open transaction. Raises LaneFatal if fenced."""
        self._decide(self._current(name, epoch), "commit" if commit else "abort")

    def _decide(self, transaction: Transaction, outcome: str) -> None:
        transaction.outcome = outcome
        transaction.unmarked = len(transaction.logs) + len(transaction.offsets)
        for log in transaction.logs:
            self._mark_later(transaction, log)
        for group in list(transaction.offsets):
            tp = TP(group, -1)
            self._kafka.clock.later(self._kafka.markers_late_by(tp), lambda g=group: self._mark_group(transaction, g))  # type: ignore[misc]

    def _mark_later(self, transaction: Transaction, log: PartitionLog) -> None:
        def mark() -> None:
            log.mark(transaction)
            self._arrived(transaction, log.tp.topic)

        self._kafka.clock.later(self._kafka.markers_late_by(log.tp), mark)

    def _mark_group(self, transaction: Transaction, name: str) -> None:
        self._kafka.group(name).release(transaction)
        self._arrived(transaction, name)

    def _arrived(self, transaction: Transaction, where: str) -> None:
        transaction.unmarked -= 1
        self._kafka.changed(where)
        if not transaction.unmarked:
            self._kafka.changed(transaction.name)

    def open_since(self) -> dict[str, float]:
        """Return the producers whose transactions have records and are open, and when each began."""
        found = {name: identity.transaction for name, identity in self._identities.items()}
        return {
            name: open_.began_s for name, open_ in found.items() if open_ and open_.outcome == "open" and open_.logs
        }

    def undecided(self) -> bool:
        """Return whether any transaction is open, or any marker on its way."""
        return any(
            i.transaction is not None and (i.transaction.outcome == "open" or i.transaction.unmarked)
            for i in self._identities.values()
        )

"""What the lane asks of the outside world, as protocols. Adapters implement them; nothing here does I/O.

The lane is synchronous and single-threaded. It gets all of these as arguments, so that the same code runs on Kafka and
in a simulated world.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pipeline.engine.state.table import TableSpec


class TP(NamedTuple):
    """A topic's partition."""

    topic: str
    partition: int


class Position(NamedTuple):
    """Where a group stands in a source partition, committed as one.

    `offset` is the next to fold. `changelogs` says how far each must be read to hold what came of all before, as
    topic -> (offset, identity of the topic).
    """

    offset: int
    changelogs: Mapping[str, tuple[int, int]]


Positions = Mapping[TP, Position]


class LogFacts(NamedTuple):
    """What a topic is: a number no other topic of its name has had, partitions, how long tombstones stay."""

    identity: int
    partitions: int
    delete_retention_ms: int


class Record(Protocol):
    """One record as read; the shape of confluent_kafka.Message, so that none has to be copied."""

    def key(self) -> Any: ...
    def value(self) -> Any: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...  # (kind, milliseconds since the epoch)
    def headers(self) -> Any: ...


@dataclass(slots=True)
class Polled:
    """What one poll brought: records in order by partition, and where a partition's end was reached.

    `ends`: the offset behind the last stable record, transaction markers included. `held_back`: those of them that
    go on behind that end, with records of a transaction that is still open. `out_of_range`: partitions whose log does
    not hold the offset asked for.
    """

    batches: dict[TP, list[Record]] = field(default_factory=dict)
    ends: dict[TP, int] = field(default_factory=dict)
    held_back: set[TP] = field(default_factory=set)
    out_of_range: set[TP] = field(default_factory=set)


class Listener(Protocol):
    """Hears of the group's assignments, always from within `poll` or `close`."""

    def assigned(self, partitions: Sequence[TP]) -> None: ...
    def revoked(self, partitions: Sequence[TP]) -> None: ...
    def lost(self, partitions: Sequence[TP]) -> None: ...


class GroupConsumer(Protocol):
    """Reads the partitions that the consumer group assigns; each comes paused until it is started."""

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None: ...
    def poll(self, records_max: int, timeout_s: float, gather_s: float = 0) -> Polled:
        """What has arrived; waits up to `timeout_s` for the first record, up to `gather_s` in all for more."""

    def committed(self, partitions: Sequence[TP]) -> dict[TP, Position | None] | None:
        """Stable committed positions; None as a whole where the answer is not to be had yet (ask again)."""

    def start(self, partition: TP, offset: int | None) -> None:
        """Reads on from `offset` (None: the log's beginning), also where the partition was running already."""

    def pause(self, partition: TP) -> None:
        """Reads nothing more there until it is started again."""

    def bounds(self, partition: TP) -> tuple[int, int]:
        """The first offset that the log holds, and the one behind its last."""

    def group(self) -> object:
        """Proof of membership in the group's current generation, for the producer."""

    def members(self) -> set[str]:
        """The static names of the group's members, as its coordinator knows them now; also before `subscribe`."""

    def owners(self, partitions: Sequence[TP]) -> dict[TP, str]:
        """The ids of the producers that have committed positions there last; those of open transactions do not count.

        Without partitions whose owner is not noted.
        """

    def close(self) -> None: ...


class LogReader(Protocol):
    """Reads given partitions from given offsets, as nobody's member."""

    def follow(self, starts: Mapping[TP, int | None]) -> None:
        """Adds partitions, each read from its offset; None: from the log's beginning."""

    def unfollow(self, partitions: Iterable[TP]) -> None: ...
    def poll(self, records_max: int, timeout_s: float) -> Polled: ...
    def ends(self, partitions: Sequence[TP]) -> dict[TP, int]:
        """Where each log ends now, records of open transactions included."""

    def facts(self, topics: Sequence[str]) -> dict[str, LogFacts]: ...
    def close(self) -> None: ...


class Producer(Protocol):
    """A transactional producer. Every call may raise TransactionAborted (RecordRefused among them) or LaneFatal."""

    name: str  # the id of its transactions

    def partitions(self, topic: str) -> int:
        """How many partitions that topic has to produce to, 0 where there is none; may be some seconds old."""

    def begin(self) -> None: ...
    def produce(self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
        """Queues a record; partition -1 lets the key decide (murmur2). Blocks while the queue is full."""

    def park(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, str | bytes | None]]
    ) -> None:
        """Queues a record with headers."""

    def produce_last(self, topic: str, key: bytes, value: bytes | None, partition: int) -> None:
        """Like `produce`; the record's offset will be in what `flush` returns, if it is the partition's last."""

    def flush(self, patience_s: float) -> dict[TP, int]:
        """Waits until all is stored; returns the offset behind the last `produce_last` of each partition.

        TransactionAborted where that takes longer than `patience_s`.
        """

    def commit(self, positions: Positions, group: object, patience_s: float) -> None:
        """Commits the transaction with the source positions. Returns only when the outcome is known to be success.

        Asks for `patience_s` where the broker does not answer; then OutcomeUnknown.
        """

    def abort(self) -> None: ...
    def fence(self, name: str) -> None:
        """Ends what another producer, of that id, has left open. It cannot go on, should it still live."""

    def close(self) -> None: ...


class Store(Protocol):
    """The local tables of one task: ordered bytes, with named positions that change in the same atomic write.

    Positions are whole numbers below 2^64. Every call may raise StoreDamaged.
    """

    damage: str | None  # why what was here before could not be used; the store began empty then

    def get(self, key: bytes) -> bytes | None: ...
    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` pairs whose key begins with `prefix`, from `start` on, in key order."""

    def write(self, pairs: Iterable[tuple[bytes, bytes | None]], positions: Mapping[str, int]) -> None:
        """Puts (None: deletes) and moves positions, all or nothing. Survives a crash only once flushed."""

    def position(self, name: str) -> int | None: ...
    def flush(self) -> None: ...
    def wipe(self) -> None: ...
    def close(self) -> None: ...


class Stores(Protocol):
    """Opens stores by name under one state directory."""

    def open(self, name: str) -> Store: ...


class SharedStore(Store, Protocol):
    """The tables of one task in a database, which does not take every row, and answers each question after a while."""

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """What stands under those of the keys, all of one table, that there are."""

    def check(self, key: bytes, value: bytes) -> None:
        """Raises ValueError where such a row could not be written."""


class SharedStores(Protocol):
    """Opens the tables of a task in a database that other workers may open, too.

    `tables`: those whose rows are kept in columns; what else the task keeps, under keys that do not begin with the
    prefixes of these, lies beside them. Whoever opens them last has them: a write of one who had them before raises
    Superseded and changes nothing. So does one to a database that has lost what was written last. Every call may raise
    DatabaseUnreachable.
    """

    def open(self, source: TP, tables: Sequence[TableSpec]) -> SharedStore: ...


class Clock(Protocol):
    """The time, for intervals and the age of local tables: what a record's time is, the broker says."""

    def monotonic_s(self) -> float: ...
    def time_ms(self) -> int:
        """Milliseconds since the epoch."""

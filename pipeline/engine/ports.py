"""The ports of the lane, as protocols. Adapters implement them; nothing here does I/O.

The lane is synchronous and single-threaded. It gets all of these as arguments, so that the same code runs on Kafka and
in a simulated world.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pipeline.model.records.step_notes import StepNotes

if TYPE_CHECKING:
    from pipeline.engine.state.table import TableSpec


class TP(NamedTuple):
    """A topic's partition."""

    topic: str
    partition: int


class Pause(NamedTuple):
    """That an operator has a service decide no commands: who, why, and since when, in milliseconds since the epoch."""

    by: str
    why: str
    since_ms: int


class Position(NamedTuple):
    """A group's position in a source partition, committed as one.

    `offset` is the next to fold. `changelogs` says how far each must be read to contain the effects of all records
    before it: topic -> (offset, identity of the topic). `unended`: former owners, by the ids of their transactions, of
    which it is not known that nothing is open any more. They are noted beside the owner, for the next one to look for.
    `standing`: the digest of what has folded them (see `Standing`); 0 if it is no worker that has set the offset.
    `partitions`: of the source topic, as the task that commits knows it; 0: not noted.
    `steps`: how far each step is; empty if it is no worker that has set the offset.
    `leaves`: whether the owner ends with this commit: it is not noted, as nothing of it is open afterwards.
    `pause`: who has the partition folds nothing of it, until a later commit says otherwise.
    """

    offset: int
    changelogs: Mapping[str, tuple[int, int]]
    unended: tuple[str, ...] = ()
    standing: int = 0
    partitions: int = 0
    steps: StepNotes = MappingProxyType({})
    leaves: bool = False
    pause: Pause | None = None


Positions = Mapping[TP, Position]


class LogFacts(NamedTuple):
    """A topic's identity (another for each creation of the name), partitions, and how long tombstones stay."""

    identity: int
    partitions: int
    delete_retention_ms: int


class TopicNow(NamedTuple):
    """A topic's identity and partitions as last heard; see LogFacts."""

    identity: int
    partitions: int


class Record(Protocol):
    """One record as read. It has the shape of confluent_kafka.Message, so that no record is copied."""

    def key(self) -> Any: ...
    def value(self) -> Any: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...  # (kind, milliseconds since the epoch)
    def headers(self) -> Any: ...


def names_of(partitions: Iterable[TP]) -> str:
    """Return partitions for a message: `orders.event 0 1 3, users.event 2`."""
    numbers: dict[str, list[str]] = {}
    for tp in sorted(partitions):
        numbers.setdefault(tp.topic, []).append(str(tp.partition))
    return ", ".join(f"{topic} {' '.join(each)}" for topic, each in numbers.items()) or "nothing"


class Batch(NamedTuple):
    """Records of one partition, in order."""

    tp: TP
    records: list[Record]


@dataclass(slots=True)
class Polled:
    """The result of one poll: records in order by partition, and the ends that were reached.

    `ends`: the offset behind the last stable record, transaction markers included. `held_back`: the partitions among
    them with records of an open transaction behind that end. `out_of_range`: partitions whose log does not hold the
    requested offset.
    """

    batches: dict[TP, list[Record]] = field(default_factory=dict)
    ends: dict[TP, int] = field(default_factory=dict)
    held_back: set[TP] = field(default_factory=set)
    out_of_range: set[TP] = field(default_factory=set)


class Listener(Protocol):
    """Receives the group's assignments, always from within `poll` or `close`."""

    def assigned(self, partitions: Sequence[TP]) -> None: ...
    def revoked(self, partitions: Sequence[TP]) -> None: ...
    def lost(self, partitions: Sequence[TP]) -> None: ...


class GroupConsumer(Protocol):
    """Reads the partitions that the consumer group assigns; each is paused until it is started."""

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None: ...
    def poll(self, records_max: int, timeout_s: float, gather_s: float = 0) -> Polled:
        """Return what has arrived; wait up to `timeout_s` for the first record, up to `gather_s` in all for more."""

    def committed(self, partitions: Sequence[TP]) -> dict[TP, Position | None] | None:
        """The stable committed positions; None as a whole if they are not available yet (ask again)."""

    def start(self, partition: TP, offset: int | None) -> None:
        """Read on from `offset` (None: the log's beginning), even if the partition is running already."""

    def pause(self, partition: TP) -> None:
        """Read nothing of the partition until it is started again."""

    def bounds(self, partition: TP) -> tuple[int, int]:
        """The first offset that the log holds, and the offset behind its last."""

    def group(self) -> object:
        """The proof of membership in the group's current generation, for the producer."""

    def members(self, patience_s: float = 60.0) -> set[str]:
        """The static names of the group's members, as its coordinator knows them now; also before `subscribe`."""

    def owners(self, partitions: Sequence[TP]) -> dict[TP, tuple[str, ...]]:
        """The transactional id that last committed a position of each partition, and those it noted as `unended`.

        Open transactions do not count. Partitions without a noted owner are left out.
        """

    def leave(self) -> None:
        """Leave the group, so that the other members get the partitions at once, and read no more.

        Without it, a member that closes keeps them for its session, for when it comes back; `leave` may do no more.
        """

    def close(self) -> None: ...


class LogReader(Protocol):
    """Reads given partitions from given offsets, outside any group."""

    def follow(self, starts: Mapping[TP, int | None]) -> None:
        """Add partitions, each read from its offset; None: from the log's beginning."""

    def unfollow(self, partitions: Iterable[TP]) -> None: ...
    def poll(self, records_max: int, timeout_s: float) -> Polled: ...
    def ends(self, partitions: Sequence[TP]) -> dict[TP, int]:
        """The end of each log now, records of open transactions included."""

    def facts(self, topics: Sequence[str]) -> dict[str, LogFacts]: ...
    def identities(self, topics: Sequence[str]) -> dict[str, TopicNow]:
        """The identities and partitions of topics as the broker has last told them; those that it has not are left out.

        Does not wait: each call asks for the next one.
        """

    def close(self) -> None: ...


class Producer(Protocol):
    """A transactional producer. Every call may raise TransactionAborted (RecordRefused among them) or LaneFatal."""

    name: str  # the id of its transactions

    def partitions(self, topic: str) -> int:
        """The number of partitions to produce to; 0 if the topic does not exist. May be some seconds old."""

    def begin(self) -> None: ...
    def produce(self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
        """Queue a record; partition -1 lets the key decide (murmur2). Blocks while the queue is full."""

    def park(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, str | bytes | None]],
        partition: int = -1,
    ) -> None:
        """Queue a record like `produce`, with headers."""

    def produce_last(self, topic: str, key: bytes, value: bytes | None, partition: int) -> None:
        """Queue a record like `produce`; `flush` returns its offset if it is the partition's last."""

    def flush(self, patience_s: float) -> dict[TP, int]:
        """Wait until all is stored; return the offset behind the last `produce_last` of each partition.

        Raises TransactionAborted if that takes longer than `patience_s`.
        """

    def commit(self, positions: Positions, group: object, patience_s: float) -> None:
        """Commit the transaction with the source positions. Return only if it is known to be committed.

        `group` is the proof of membership; without positions, None does.
        Retries for `patience_s` if the broker does not answer; then raises OutcomeUnknown.
        """

    def abort(self) -> None: ...
    def fence(self, name: str) -> None:
        """Abort the open transaction of the producer of that id, and fence it if it still lives."""

    def close(self) -> None: ...


class Store(Protocol):
    """The local tables of one task: ordered bytes, with named positions that change in the same atomic write.

    Positions are whole numbers below 2^64. Every call may raise StoreDamaged.
    """

    damage: str | None  # why the former contents could not be used; the store began empty if so

    def get(self, key: bytes) -> bytes | None: ...
    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` pairs whose key begins with `prefix`, from `start` on, in key order."""

    def write(self, pairs: Iterable[tuple[bytes, bytes | None]], positions: Mapping[str, int]) -> None:
        """Put pairs (None: delete) and move positions, all or nothing. Survives a crash only once flushed."""

    def position(self, name: str) -> int | None: ...
    def flush(self) -> None: ...
    def wipe(self) -> None: ...
    def close(self) -> None: ...


class Stores(Protocol):
    """Opens stores by name under one state directory."""

    def open(self, name: str) -> Store: ...


class SharedStore(Store, Protocol):
    """The tables of one task in a database, which may refuse a row, and where each query costs a round trip."""

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys, all of one table, that exist."""

    def check(self, key: bytes, value: bytes) -> None:
        """Raise ValueError if the row could not be written."""


class SharedStores(Protocol):
    """Opens the tables of a task in a database that other workers may open, too.

    `tables` are stored as columns; all other keys go to a generic key/value table. The last opener owns them: writes of
    earlier owners raise Superseded and change nothing. So do writes to a database that has lost the last write. Every
    call may raise DatabaseUnreachable.
    """

    def open(self, source: TP, tables: Sequence[TableSpec]) -> SharedStore: ...


class Clock(Protocol):
    """The time, for intervals and the age of local tables. A record's time comes from the broker."""

    def monotonic_s(self) -> float: ...
    def time_ms(self) -> int:
        """Return milliseconds since the epoch."""

"""Compares the contents of disks and tables with the changelogs.

Uses the engine's layout of rows: only the engine defines it, so there can be no second opinion on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.adapters.memory.tables import Disk
from pipeline.engine.ports import TP
from pipeline.engine.state import replies
from pipeline.engine.state.positions import changelog_position, source_position
from pipeline.engine.state.row_keys import order_prefix, table_prefix
from pipeline.engine.state.table import RowCodec
from pipeline.flow import keep_ms
from pipeline.model import Idempotency, TopicKind
from pipeline.testing.simulation.judge.differences import Rows, committed, rows_differ
from pipeline.testing.simulation.judge.past import histories
from pipeline.verify.report import sides

if TYPE_CHECKING:
    from pipeline.testing.simulation.worker import Worker
    from pipeline.testing.simulation.world import World

Due = Mapping[bytes, bytes | None]


class DiskCheck:
    """Checks disks and tables. `codec`: by topic; `idempotency`: each aggregate's, by its name."""

    def __init__(self, codec: Mapping[str, RowCodec], idempotency: Mapping[str, Idempotency | None]) -> None:
        self._codec, self._idempotency = codec, idempotency

    def disk(self, world: World, worker: Worker) -> Iterator[str]:
        """Check that a store equals its changelog up to the position noted in it: committed records, and nothing else.

        While it is restored from a compacted log, a key may be missing if its next value is still to come.
        """
        yield from histories(world, worker)
        for source_topic in worker.plan.source_topics.values():
            for n in range(world.schedule.partitions):
                disk: Disk | None = worker.disk.disks.get(f"{source_topic.topic}-{n}")
                if not source_topic.keeps_locally:
                    disk = world.database(worker.plan).disks.get(TP(source_topic.topic, n))
                for name, changelog, *_ in source_topic.tables if disk is not None else ():
                    assert disk is not None
                    rows, positions = disk.now()
                    folded = positions.get(source_position(source_topic.topic), 0)
                    position = positions.get(changelog_position(changelog), 0)
                    due: dict[bytes, bytes | None] = {}
                    to_come: set[bytes] = set()
                    for record in committed(world, TP(changelog, n)):
                        if record.offset() < position:
                            due[record.key()] = record.value()
                        else:
                            to_come.add(record.key())
                    prefix = table_prefix(name)
                    there = {k[len(prefix) :]: v for k, v in rows.items() if k.startswith(prefix)}
                    if TopicKind.of(name) is TopicKind.REPLIES:
                        yield from misplaced(f"{name}-{n} of {worker.name}", rows, there, self._codec[name])
                        to_come |= self._forgettable(world, name, due, folded)
                    elif TopicKind.of(name) is TopicKind.DEADLINES:
                        yield from out_of_order(f"{name}-{n} of {worker.name}", rows, there, self._codec[name])
                    for key in sorted({*due, *there}):
                        if due.get(key) != there.get(key) and not (key not in there and key in to_come):
                            expected, found, *_ = sides(
                                *(self._read(changelog, rows.get(key)) for rows in (due, there))
                            )
                            yield (
                                f"on the disk of {worker.name}, {name}-{n} caught up with {changelog}@{position} "
                                f"holds {found} for {key.decode()!r}, and should {expected}"
                            )

    def _forgettable(self, world: World, name: str, due: Due, folded: int) -> set[bytes]:
        """Return the replies that may be forgotten once records up to `folded` are folded."""
        idempotency = self._idempotency[name.rpartition(".")[0]]
        assert idempotency is not None
        replies = {key: self._codec[name].decode(data) for key, data in due.items() if data is not None}
        since_ms = world.kafka.clock.time_ms() - keep_ms(idempotency)
        last = max([folded - 1, *(reply.place[0] for reply in replies.values())])  # a standby goes by the last reply
        return {
            key
            for key, reply in replies.items()
            if reply.place[0] <= last - idempotency.records or reply.place[1] < since_ms
        }

    def _read(self, topic: str, data: bytes | None) -> Any:
        return None if data is None else self._codec[topic].decode(data)

    def tables(self, world: World) -> Iterator[str]:
        """Check that each partition has one owner, whose tables equal their changelogs, once all is settled."""
        for n in range(world.schedule.partitions):
            for plan in world.oracle.plans:
                for source_topic in plan.source_topics.values():
                    for name, changelog, *_ in source_topic.tables:
                        end = world.kafka.log(TP(source_topic.topic, n)).end
                        yield from self._table(world, name, TP(changelog, n), end)

    def _table(self, world: World, name: str, changelog: TP, folded: int) -> Iterator[str]:
        last = {r.key(): r.value() for r in world.kafka.log(changelog).records if r.decided and r.key() is not None}
        due = {key: value for key, value in last.items() if value is not None}
        is_replies = TopicKind.of(name) is TopicKind.REPLIES
        may_lack = self._forgettable(world, name, due, folded) if is_replies else set()
        owners = 0
        for worker in world.workers:
            view = worker.lane.views.get((name, changelog.partition)) if worker.lane else None
            if view is not None and view.copy is None and not view.restoring:
                owners += 1
                there = {k[len(view.prefix) :]: v for k, v in view.store.scan(view.prefix, view.prefix, 10**9)}
                wanted = {key: value for key, value in due.items() if key not in may_lack or key in there}
                where = f"the table {name}-{changelog.partition} of {worker.name}"
                yield from rows_differ(where, wanted, there, self._codec[changelog.topic].decode)
        if owners != 1:
            yield f"{owners} workers own {name}-{changelog.partition}"

    def replicas(self, world: World) -> Iterator[str]:
        """Check that all workers of a service have the same replica; verify checks one."""
        for plan in world.oracle.plans:
            workers = [worker for worker in world.workers if worker.plan is plan]
            for replica, *_ in plan.replicas:
                for n in range(world.schedule.partitions):
                    prefix = table_prefix(f"{replica.name}.{n}")
                    stores = [worker.stores[f"replica.{replica.name}"] for worker in workers]
                    first, *more = (dict(store.scan(prefix, prefix, 10**9)) for store in stores)
                    for worker, rows in zip(workers[1:], more, strict=True):
                        yield from rows_differ(f"the replica {replica.name}-{n} of {worker.name}", first, rows)


def misplaced(
    where: str, rows: Mapping[bytes, bytes], rows_there: Mapping[bytes, bytes], codec: RowCodec
) -> Iterator[str]:
    """Yield findings about replies on a disk that are missing in the order in which replies are forgotten."""
    order = order_prefix(where.partition("-")[0])
    places = {(k[len(order) :], v[16:]) for k, v in rows.items() if k.startswith(order)}
    for key, data in rows_there.items():
        reply = codec.decode(data)
        if (replies.place_of(reply, key).row, key) not in places:
            yield f"{where}: {reply} would never be forgotten"


def out_of_order(where: str, rows: Rows, there: Rows, codec: RowCodec) -> Iterator[str]:
    """Yield findings about the order by time on a disk, which must be that of its rows."""
    order = order_prefix(where.partition("-")[0])
    places = {key[len(order) :] for key in rows if key.startswith(order)}
    due = {codec.decode(data).due_ms.to_bytes(8, "big") + key for key, data in there.items()}
    if places != due:
        yield f"{where}: the order of time has {sorted(places)}, and should have {sorted(due)}"

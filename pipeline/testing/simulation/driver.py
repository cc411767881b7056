"""A synchronous test driver: send commands, let time pass, read tables and topics. No broker, no waiting."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from pipeline.engine.state.table import Codecs
from pipeline.engine.tracing.port import HEADER, Kind, Tracers
from pipeline.errors import FoldError, UnknownTable
from pipeline.model import TopicKind
from pipeline.model.records.partitioning import partition_of
from pipeline.testing.author_checks import check_command
from pipeline.testing.simulation.judge.oracle import Oracle, oracle_of
from pipeline.testing.simulation.operators import held, operate
from pipeline.testing.simulation.schedule import Operation, Schedule
from pipeline.testing.simulation.world import STEP_S, World
from pipeline.topology import Topology

ALL_EFFECTS_S = 600.0  # of virtual time, for those of one call: a command may give thousands of events


class TestDriver:
    """A topology with one worker for each service and no faults. Each call returns when all its effects have happened.

    `partitions`: of every topic. `park`: if the topology's code raises, park the record, and hold the service if that
    is too much, as a worker does; otherwise the call raises the error. So does a function that changes a state in
    place, or returns what is no event: see AuthorError. `tracers`: make the spans of what the services do. A context
    manager; not safe to use from several threads.
    """

    __test__ = False  # pytest must not collect it

    def __init__(
        self,
        topology: Topology,
        *,
        partitions: int = 2,
        park: bool = False,
        codecs: Codecs | None = None,
        tracers: Tracers | None = None,
    ) -> None:
        from pipeline.testing.simulation.simulation import known_oracle

        self._park = park
        # What is known of a topology is for all drivers with its own codecs, so other codecs have one of their own.
        own = codecs is not None
        self._oracle: Oracle = (oracle_of if own else known_oracle)(topology, codecs, check=True)
        self._world = World(self._oracle, Schedule(workers=1, partitions=partitions), park=park)
        self._world.records_per_poll, self._world.idle_wait_s = 1_000, 3_600.0  # records wake them
        self._world.steps_max = int(ALL_EFFECTS_S / STEP_S)
        self._world.tracers, self._sent = tracers, 0
        self._tracer = None if tracers is None else tracers.of("client")
        for worker in self._world.workers:
            worker.start()
        self._settle()

    def __enter__(self) -> TestDriver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers."""
        self._world.close()

    # --- actions ------------------------------------------------------------------------------------------------------

    def send(self, aggregate: str, key: str, *commands: Any) -> None:
        """Send commands to the aggregate `key`, in order, and let all their effects happen."""
        self.send_unseen(aggregate, key, *commands)
        self._settle()

    def send_unseen(self, aggregate: str, key: str, *commands: Any, at_ms: int | None = None) -> None:
        """Only store the commands; they are folded when time passes. `at_ms`: when they are due."""
        for command in commands:
            self._sent += 1
            if not isinstance(command, bytes):
                check_command(self._oracle.aggregates[aggregate], command)
            name = f"command-{self._sent}"
            if self._tracer is None:
                self._world.send(aggregate, key, command, name, due_ms=at_ms)
                continue
            span = self._tracer.start(f"send {TopicKind.COMMAND.topic(aggregate)}", Kind.PRODUCER, {})
            headers = () if span.header is None else ((HEADER, span.header),)
            self._world.send(aggregate, key, command, name, due_ms=at_ms, headers=headers)
            span.end()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._until(lambda: False, seconds)

    def _settle(self) -> None:
        assert self._until(self._is_settled, ALL_EFFECTS_S), self._world.unsettled()

    def _until(self, there: Callable[[], bool], seconds: float) -> bool:
        self._world.steps = 0
        reached = self._world.until(there, self._world.kafka.clock.now_s + seconds)
        self._raise()
        return reached

    def _raise(self) -> None:
        """Raise the error that has ended a worker, or that holds it although nothing is to be parked."""
        for worker in () if self._park else self._world.workers:
            if worker.stats.held and worker.lane is not None:
                raise FoldError(worker.stats.held_why) from worker.lane._error_rate.error
        if self._world.errors:
            raise self._world.errors[0]
        assert not self._world.findings, self._world.findings

    def parked(self) -> list[tuple[str, str, int]]:
        """Return the source topic and key of each queue, and the offset of its first parked record."""
        return [(tp.topic, key.decode(errors="replace"), offset) for _, tp, key, offset in held(self._world)]

    def redrive(self, limit: int = 1_000) -> None:
        """Redrive parked records, at most `limit` of each key."""
        self._operate("redrive", limit)

    def discard(self, limit: int = 1) -> None:
        """Discard the first `limit` parked records of each key."""
        self._operate("discard", limit)

    def _operate(self, action: str, limit: int) -> None:
        for nth in range(len(held(self._world))):
            operate(self._world, Operation(0, action, nth, limit))
        self._settle()

    def resume(self) -> None:
        """Resume all services that are held."""
        operate(self._world, Operation(0, "resume"))
        self._settle()

    def _is_settled(self) -> bool:
        """Whether all has happened, or what has not waits for a service that is held."""
        asked = any(worker.asked for worker in self._world.workers)
        return not asked and (self._world.is_settled() or any(worker.stats.held for worker in self._world.workers))

    @property
    def now_ms(self) -> int:
        """The time, in milliseconds since the epoch."""
        return self._world.kafka.clock.time_ms()

    # --- reads --------------------------------------------------------------------------------------------------------

    def rows(self, table: str) -> dict[str, Any]:
        """Return all rows of a table by key; those of an aggregate are `StateMessage`. Raises UnknownTable."""
        found: dict[str, Any] = {}
        views = 0
        for worker in self._world.workers:
            for (name, _), view in sorted((worker.lane.views if worker.lane else {}).items(), key=lambda v: v[0]):
                if name == table:
                    views += 1
                    for key, value in view.store.scan(view.prefix, view.prefix, 10**9):
                        found[key[len(view.prefix) :].decode()] = view.codec.decode(value)
        if not views:
            self._oracle.topology.service_of(table)
            raise UnknownTable(f"no worker has {table!r} yet; let time pass")
        return found

    def row(self, table: str, key: str) -> Any:
        """Return one row; None if there is none."""
        return self.rows(table).get(key)

    def events(self, aggregate: str, key: str) -> list[Any]:
        """Return the events of the aggregate `key`."""
        topic = TopicKind.EVENT.topic(aggregate)
        partition = partition_of(key.encode(), self._world.schedule.partitions)
        return [message.body for at, message in self.records(topic, partition) if at == key]

    def records(self, topic: str, partition: int | None = None) -> list[tuple[str, Any]]:
        """Return key and message of each committed record of a topic, in order within each partition."""
        decode = self._oracle.codec[topic].decode if topic in self._oracle.codec else lambda value: value
        logs = self._world.kafka.topics[topic].logs
        return [
            (record.key().decode(), None if record.value() is None else decode(record.value()))
            for log in (logs if partition is None else [logs[partition]])
            for record in log.archive
            if record.decided
        ]

"""What all parts of one lane share, as one value that travels from the lane to its tasks and what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.engine.parking.error_rate import ErrorRate
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import Clock, GroupConsumer, LogReader, Producer, SharedStores, Stores
from pipeline.engine.stats import LaneStats
from pipeline.engine.tracing.folds import Tracing
from pipeline.engine.tracing.port import Tracer
from pipeline.engine.tracing.producer import TracedProducer

if TYPE_CHECKING:
    from pipeline.engine.copies.histories import Histories


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """How much a lane takes at once, and how long it waits."""

    records_per_poll_max: int = 4_000
    commit_interval_s: float = 0.1
    records_per_commit_max: int = 50_000
    fired_per_turn_max: int = 1_000  # deadlines; fewer than are read in a turn, so that a burst ends
    backlog_records: int = 500  # a poll that brings fewer has caught up, and what it brought is committed at once
    idle_wait_s: float = 0.05
    pause_s: float = 0.008  # between a commit and what is folded next, where no backlog waits
    restore_wait_s: float = 0.002  # while a changelog is being fetched by the other consumer
    commit_patience_s: float = 30.0  # for the broker to take and commit what a turn has made
    revoke_patience_s: float = 5.0  # the same while the group, or a stop, waits for this member
    standby: bool = False  # whether to follow the tables of partitions that others hold
    replica_ages: bool = False  # whether to measure how old replicas are
    watch_sagas: bool = False  # whether to know which sagas have not ended
    copy_wait_s: float = 30.0  # for copies that decisions read, to get to where their logs ended when the lane began
    cache_bytes: int = 128 << 20  # of decoded rows, of all tables
    raising_share: float | None = None  # in place of what the service declares
    raising_at_least: int | None = None  # the same
    ending: str = ""  # the home of workers that end together with this one; "": none do


@dataclass(frozen=True, slots=True)
class LanePorts:
    """What one lane reaches the outside world by.

    `replays`: makes a reader for what is to be folded again. `shared`: stores in a database, if the service keeps
    tables there. `histories`: None keeps none. `tracer`: None traces nothing.
    """

    consumer: GroupConsumer
    producer: Producer
    reader: LogReader
    stores: Stores
    clock: Clock
    replays: Callable[[], LogReader]
    shared: SharedStores | None = None
    histories: Histories | None = None
    tracer: Tracer | None = None


@dataclass(frozen=True, slots=True)
class LaneContext:
    """One lane's plan, ports, settings and counts."""

    plan: ServicePlan
    ports: LanePorts
    settings: LaneSettings
    stats: LaneStats
    error_rate: ErrorRate
    tracing: Tracing | None = None

    @classmethod
    def of(cls, plan: ServicePlan, ports: LanePorts, settings: LaneSettings, stats: LaneStats) -> LaneContext:
        """The context of a new lane."""
        stats.waiting.clear()
        stats.joined = False
        service, share, at_least = plan.service, settings.raising_share, settings.raising_at_least
        error_rate = ErrorRate(
            service.name,
            ports.clock,
            stats,
            service.raising_share if share is None else share,
            service.raising_at_least if at_least is None else at_least,
        )
        if ports.tracer is None:
            return cls(plan, ports, settings, stats, error_rate)
        producer = TracedProducer(ports.producer)
        tracing = Tracing(ports.tracer, producer, service.name, plan.group, ports.clock, stats)
        return cls(plan, replace(ports, producer=producer), settings, stats, error_rate, tracing)

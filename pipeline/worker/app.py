"""The Faust app of a worker: its lanes as services, an agent a source topic, and the HTTP pages.

Faust gives what a process needs around the lanes: supervised services, agents over bounded channels, the web server,
signals. It opens no Kafka client of its own here: records come and go by confluent-kafka, in transactions. Each source
topic has an agent, which takes batches of one partition and hands each to the lane's thread.
"""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, cast

import faust
from prometheus_client import Gauge

from pipeline.adapters.avro.codec import implementation
from pipeline.adapters.kafka import KafkaBroker, admin
from pipeline.adapters.kafka.access.rules import HTTP
from pipeline.adapters.kafka.exact.restored import restored_mark
from pipeline.adapters.kafka.lag.logs import KafkaLogs
from pipeline.adapters.kafka.owners import Router
from pipeline.adapters.kafka.reader_versions import Versions
from pipeline.client import AsyncClient
from pipeline.client.wire.access import Access
from pipeline.engine.ports import TP
from pipeline.engine.state.table import Codecs
from pipeline.engine.tracing.port import Tracer
from pipeline.flow import Lineage
from pipeline.server.access.required import presented, required
from pipeline.server.access.tokens import AccessTokens
from pipeline.server.endpoint import Pages
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import Forwarding
from pipeline.server.pages.commands import CommandApi
from pipeline.server.pages.deadlines import DeadlineApi
from pipeline.server.pages.history import HistoryApi
from pipeline.server.pages.parked import ParkedApi
from pipeline.server.pages.probes import ProbeApi
from pipeline.server.pages.projections import ProjectionApi
from pipeline.server.pages.resume import ResumeApi
from pipeline.server.pages.sagas import SagaApi
from pipeline.server.pages.snapshot_read import SnapshotReadApi
from pipeline.server.pages.tables import QueryApi
from pipeline.server.pages.watch import WatchApi
from pipeline.server.reads.cluster_offsets import ClusterOffsets
from pipeline.server.reads.consistency import Consistency
from pipeline.server.reads.local_tables import LocalTables
from pipeline.server.traced import tracing
from pipeline.server.watch.subscriptions import Subscriptions
from pipeline.server.web import Ending, as_problems, mount
from pipeline.topology import Topology
from pipeline.worker.host import LaneHost
from pipeline.worker.metrics.lag_watch import LagWatch
from pipeline.worker.metrics.reads import ReadCollector
from pipeline.worker.metrics.registry import registry_of
from pipeline.worker.probes.health import Health
from pipeline.worker.probes.ready_line import ReadyLine
from pipeline.worker.settings import Adapters, MachineClock, WorkerSettings

ONLY_METRICS = {"timings", "opened_s"}  # of LaneStats: they say nothing without the rest of /metrics


class Closing(Protocol):
    """What is to be closed in the event loop."""

    async def close(self) -> None: ...


class WithoutKafka(faust.App.BootStrategy):  # type: ignore[valid-type, misc]
    """Starts everything of a Faust app but its own Kafka consumer and producer."""

    enable_kafka = False


def build_app(
    hosts: Sequence[LaneHost],
    topology: Topology,
    settings: WorkerSettings,
    port: int,
    adapters: Adapters,
    make: Codecs,
    versions: Versions,
    tokens: AccessTokens | None,
    tracer: Tracer | None = None,
) -> tuple[faust.App, ReadyLine]:
    """The Faust app around the lanes: an agent a source topic, the lane services, the pages; and its line."""
    app = faust.App(
        f"pipeline-{topology.name}",
        broker=f"kafka://{settings.bootstrap}",
        datadir=str(settings.state_dir / "faust"),
        canonical_url=settings.advertised(port).url,
        web_bind=settings.host,
        web_port=port,
    )
    app.boot_strategy = WithoutKafka(app)
    app.flow_control.resume()  # Faust's consumer, which would do this, is not started
    for host in hosts:
        for topic in host.plan.source_topics:
            channel = host.channels[topic] = app.channel(maxsize=1)
            app.agent(channel, name=f"{host.plan.service.name}:{topic}")(host.agent())
    clock, logs = MachineClock(), KafkaLogs(settings.bootstrap, f"{hosts[0].plan.group}-lag")
    lag = LagWatch(lambda: {host.plan.service.name: host.lane.places for host in hosts}, logs, clock)
    metrics = registry_of(hosts, topology, lag, clock)
    web_app = cast(Any, app.web).web_app  # aiohttp's, which Faust's own type does not show
    ending = Ending()
    web_app.middlewares.extend([tracing(tracer), as_problems, required(tokens), ending.middleware()])
    tables = LocalTables(lambda: ChainMap(*(host.lane.views for host in hosts)))
    client = admin(settings.bootstrap)
    router = Router(client, topology)
    forwarding, lineage = Forwarding(router, Access(presented)), Lineage(topology.services.values())
    dispatcher = Dispatcher(tables, forwarding)
    metrics.register(ReadCollector(dispatcher.read_timings))
    by_service = {host.plan.service.name: host for host in hosts}

    def committed(service: str, tp: TP) -> int | None:
        return by_service[service].lane.committed(tp) if service in by_service else None

    broker = KafkaBroker(settings.bootstrap, router.count)
    offset_source = ClusterOffsets(broker, committed, topology.names)
    consistency = Consistency(lineage, tables, offset_source, restored_mark(settings.bootstrap, client))
    hub = Subscriptions(lambda name: adapters.reader(settings.bootstrap, f"{name}-{port}"))
    Gauge("pipeline_watchers", "Open watches of rows", registry=metrics).set_function(lambda: hub.watchers)
    health = Health(hosts, lag, settings.ready_lag_s)
    ready_line = ReadyLine(health, f"{', '.join(by_service)} at {settings.advertised(port).url}")
    query = QueryApi(
        tables, dispatcher, consistency, lambda: status(hosts, lag), metrics, asks_for_token=tokens is not None
    )
    held = {name: codec for host in hosts for name, codec in host.plan.commands.items()}
    commands = CommandApi(
        partial(AsyncClient, settings.bootstrap, topology, HTTP, token=presented), tables, dispatcher, query.version
    )
    pages: Pages = {
        **WatchApi(hub, tables, dispatcher, consistency, lineage, make).pages(),  # before rows: keys may be anything
        **query.pages(),
        **SnapshotReadApi(query).pages(),
        **HistoryApi(lambda: ChainMap(*(host.lane.histories for host in hosts)), tables, dispatcher).pages(),
        **DeadlineApi(held, tables, topology).pages(),
        **commands.pages(),
        **SagaApi(tables, dispatcher, commands).pages(),
        **ParkedApi(by_service, tables, dispatcher).pages(),
        **ResumeApi(by_service, dispatcher).pages(),
        **ProjectionApi(versions).pages(),
        **ProbeApi(health.live, health.ready).pages(),
    }
    mount(web_app, dispatcher, pages, versions.table)
    for host in hosts:
        host.moved = consistency.moved
        app._extra_services.append(host)  # type: ignore[arg-type]  # what @app.service does with a class, for a service made already
    lag.start()
    parts = (ending, health, ready_line, lag, hub, commands, forwarding, offset_source)
    app.on_before_shutdown.connect(_closing(hosts, parts), weak=False)
    return app, ready_line


def _closing(hosts: Sequence[LaneHost], parts: Sequence[Closing]) -> Callable[..., Awaitable[None]]:
    async def close(*_: Any, **__: Any) -> None:
        # All at once: each waits for its own group, and Faust would stop one after the other.
        lanes = asyncio.gather(*[host.end() for host in hosts])
        for part in parts:
            await part.close()
        await lanes

    return close


def status(hosts: Sequence[LaneHost], lag: LagWatch) -> dict[str, Any]:
    """What /v1/status answers, by service."""
    answer, lags = {}, lag.as_json()
    for host in hosts:
        stats = host.stats
        values = {name: getattr(stats, name) for name in stats.__slots__ if name not in ONLY_METRICS}
        counts: dict[str, Any] = {name: dict(it) if isinstance(it, dict) else it for name, it in values.items()}
        counts["rejected"] = {f"{aggregate}/{reason}": n for (aggregate, reason), n in list(stats.rejected.items())}
        counts["wiped"] = {why.name.lower(): n for why, n in list(stats.wiped.items())}
        found = {"codec": implementation(), "lag": lags.get(host.plan.service.name, {})}
        answer[host.plan.service.name] = {**counts, **found, "positions": host.lane.positions()}
    return answer

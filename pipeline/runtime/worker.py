"""The worker process: a Faust app that hosts one lane a service, its HTTP pages and its life from start to signal.

Faust gives what a process needs around the lanes: supervised services, agents over bounded channels, the web server,
signals. It opens no Kafka client of its own here: records come and go by confluent-kafka, in transactions. Each source
topic has an agent, which takes batches of one partition and hands each to the lane's thread.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections import ChainMap
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import faust
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector

from pipeline.adapters.avro.codec import codecs, implementation
from pipeline.adapters.kafka import KafkaBroker, KafkaGroupConsumer, KafkaLogReader, KafkaProducer, admin
from pipeline.adapters.tables import RocksStores, claim_slot
from pipeline.adapters.topics import check_topics
from pipeline.client import AsyncClient
from pipeline.errors import PipelineError
from pipeline.flow import Lineage
from pipeline.model import Service
from pipeline.query.commands import CommandApi
from pipeline.query.consistency import Consistency
from pipeline.query.deadlines import DeadlineApi
from pipeline.query.forward import Forwarding
from pipeline.query.history import HistoryApi
from pipeline.query.http import QueryApi
from pipeline.query.hub import WatchHub
from pipeline.query.local import LocalTables
from pipeline.query.parked import ParkedApi
from pipeline.query.problems import add_pages, as_problems
from pipeline.query.routing import Router, client_id
from pipeline.query.sagas import SagaApi
from pipeline.query.sight import ClusterSight
from pipeline.query.together import TogetherApi
from pipeline.query.versions import Versions
from pipeline.query.watching import WatchApi
from pipeline.runtime.databases import databases
from pipeline.runtime.histories import Histories
from pipeline.runtime.host import LaneHost, OpenLane
from pipeline.runtime.lane import Lane, LaneSettings
from pipeline.runtime.metrics import LaneCollector
from pipeline.runtime.ports import TP, GroupConsumer, LogReader, Producer, SharedStores, Stores
from pipeline.runtime.secret import service_secret
from pipeline.runtime.stats import LaneStats
from pipeline.runtime.table import Codecs
from pipeline.runtime.wiring import Wiring
from pipeline.topology import Topology

if TYPE_CHECKING:
    from pipeline.adapters.sql import SqlStores

log = logging.getLogger(__name__)

REQUESTER = "http"  # whose replies the workers' HTTP sides wait for


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What one worker process runs, and where. `port` 0 takes a free one; `slot` None takes the first free one.

    `cache_bytes`: decoded rows kept in memory, of all services together. `secret_file`: of unique values; None: one
    beside the state directory, which may be deleted where the secret may not, made where there is none.
    """

    bootstrap: str
    state_dir: Path
    services: tuple[str, ...] = ()
    node: str = ""
    slot: int | None = None
    host: str = "127.0.0.1"
    port: int = 0
    standby: bool = False
    group_protocol: str = "classic"
    commit_interval_s: float = 0.1
    cache_bytes: int = 128 << 20
    secret_file: Path | None = None
    databases: Mapping[str, str] = field(default_factory=dict)  # service -> URL
    log_level: str = "INFO"


@dataclass(frozen=True, slots=True)
class Adapters:
    """What a worker's lanes reach the outside world by.

    Fault injection wraps the clients. `codecs` makes what reads and writes the records of a schema directory; another
    one puts the engine on topics whose records others have agreed on.
    """

    consumer: Callable[[str, str, str, str, str], GroupConsumer] = KafkaGroupConsumer
    producer: Callable[[str, str], Producer] = KafkaProducer
    reader: Callable[[str, str], LogReader] = KafkaLogReader
    stores: Callable[[Stores], Stores] = lambda stores: stores
    shared: Callable[[SharedStores], SharedStores] = lambda shared: shared
    codecs: Callable[[Path], Codecs] = codecs


class Closing(Protocol):
    """What is to be closed in the event loop."""

    async def close(self) -> None: ...


class MachineClock:
    """The machine's own clock."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def time_ms(self) -> int:
        return time.time_ns() // 1_000_000


class WithoutKafka(faust.App.BootStrategy):  # type: ignore[valid-type, misc]
    """Starts everything of a Faust app but its own Kafka consumer and producer."""

    enable_kafka = False


def can_listen(host: str, port: int) -> OSError | None:
    """Why one cannot listen there, or None."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def choose_port(settings: WorkerSettings, slots: Sequence[RocksStores]) -> int:
    """The port asked for; else the one that these slots' last worker had; else any free one.

    A worker that keeps its port keeps its identity in the groups, see `host_lane`. PipelineError where the port asked
    for is taken.
    """
    if settings.port:
        if error := can_listen(settings.host, settings.port):
            raise PipelineError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
                "choose another --port, or 0 for any free one"
            )
        return settings.port
    for stores in slots:
        if stores.last_port and can_listen(settings.host, stores.last_port) is None:
            return stores.last_port
    with socket.create_server((settings.host, 0)) as free:
        port: int = free.getsockname()[1]
        return port


def lane_opener(
    wiring: Wiring,
    slot: str,
    stores: RocksStores,
    settings: WorkerSettings,
    port: int,
    adapters: Adapters,
    cache_bytes: int,
    shared: SqlStores | None,
) -> OpenLane:
    """What opens a service's lane with its clients, again and again.

    The static identity in the group includes the port: the coordinator keeps the client.id of a static member when it
    comes back, and with it the address that queries are routed to.
    """
    group, bootstrap = wiring.group, settings.bootstrap
    url = f"http://{settings.host}:{port}"

    def open_lane(stats: LaneStats) -> Lane:
        admin(bootstrap)  # raises what is waited for, where no broker answers
        if shared is not None:
            shared.check()  # the same
        name, address = f"{slot}-{port}", client_id(wiring.service.name, url)
        with ExitStack() as unfinished:  # clients that are closed again where the next one cannot be opened
            producer = adapters.producer(bootstrap, slot)
            unfinished.callback(producer.close)
            consumer = adapters.consumer(bootstrap, group, name, address, settings.group_protocol)
            unfinished.callback(consumer.close)
            reader = adapters.reader(bootstrap, f"{slot}-reader")
            unfinished.callback(reader.close)
            past = adapters.reader(bootstrap, f"{slot}-history") if wiring.histories else None
            unfinished.pop_all()
        lane_settings = LaneSettings(
            replica_ages=True,
            standby=settings.standby,
            commit_interval_s=settings.commit_interval_s,
            cache_bytes=cache_bytes,
        )
        tables, clock = adapters.stores(stores), MachineClock()
        histories = None if past is None else Histories(wiring, past, tables, clock, stats)
        kept = shared and adapters.shared(shared)
        return Lane(wiring, consumer, producer, reader, tables, clock, lane_settings, stats, histories, kept)

    return open_lane


def build_app(
    hosts: Sequence[LaneHost],
    topology: Topology,
    settings: WorkerSettings,
    port: int,
    adapters: Adapters,
    make: Codecs,
    versions: Versions,
) -> faust.App:
    """The Faust app around the lanes: an agent a source topic, the lane services, the pages."""
    app = faust.App(
        f"pipeline-{topology.name}",
        broker=f"kafka://{settings.bootstrap}",
        datadir=str(settings.state_dir / "faust"),
        web_host=settings.host,
        web_bind=settings.host,
        web_port=port,
    )
    app.boot_strategy = WithoutKafka(app)
    app.flow_control.resume()  # nobody else does where Faust's consumer is not started
    for host in hosts:
        for topic in host.wiring.inlets:
            channel = host.channels[topic] = app.channel(maxsize=1)
            app.agent(channel, name=f"{host.wiring.service.name}:{topic}")(host.agent())
    metrics = CollectorRegistry()
    metrics.register(LaneCollector({h.wiring.service.name: h.stats for h in hosts}))
    ProcessCollector(registry=metrics)
    middlewares = cast(Any, app.web).web_app.middlewares  # aiohttp's, which Faust's own type does not show
    middlewares += [as_problems, versions.middleware()]
    add_pages(app, get={"/v1/projections": versions.page})
    tables = LocalTables(lambda: ChainMap(*(host.lane.views for host in hosts)))
    router = Router(admin(settings.bootstrap), topology)
    forwarding, lineage = Forwarding(router), Lineage(topology.services.values())
    by_service = {host.wiring.service.name: host for host in hosts}

    def committed(service: str, tp: TP) -> int | None:
        return by_service[service].lane.committed(tp) if service in by_service else None

    broker = KafkaBroker(settings.bootstrap, router.count)
    sight = ClusterSight(broker, committed, topology.names)
    consistency = Consistency(lineage, tables, sight)
    hub = WatchHub(lambda name: adapters.reader(settings.bootstrap, f"{name}-{port}"))
    Gauge("pipeline_watchers", "readers that watch a row", registry=metrics).set_function(lambda: hub.watchers)
    WatchApi(hub, tables, forwarding, consistency, lineage, make).mount(app)  # before rows, whose keys may be anything
    query = QueryApi(tables, forwarding, consistency, lambda: status(hosts), metrics)
    query.mount(app)
    TogetherApi(query).mount(app)
    HistoryApi(lambda: ChainMap(*(host.lane.histories for host in hosts)), tables, forwarding).mount(app)
    held = {name: codec for host in hosts for name, codec in host.wiring.commands.items()}
    DeadlineApi(held, tables, forwarding).mount(app)
    commands = CommandApi(lambda: AsyncClient(settings.bootstrap, topology, REQUESTER), tables, forwarding)
    commands.mount(app)
    SagaApi(tables, forwarding, commands).mount(app)
    ParkedApi({host.wiring.service.name: host for host in hosts}, tables, forwarding).mount(app)
    for host in hosts:
        host.moved = consistency.moved
        app._extra_services.append(host)  # type: ignore[arg-type]  # what @app.service does with a class, for a service made already
    app.on_before_shutdown.connect(_closing(hub, commands, forwarding, sight), weak=False)
    return app


def _closing(*parts: Closing) -> Callable[..., Awaitable[None]]:
    async def close(*_: Any, **__: Any) -> None:
        for part in parts:
            await part.close()

    return close


def status(hosts: Sequence[LaneHost]) -> dict[str, Any]:
    """What /v1/status answers, by service."""
    answer = {}
    for host in hosts:
        stats = host.stats
        counts: dict[str, Any] = {name: getattr(stats, name) for name in stats.__slots__}
        counts["rejected"] = {f"{aggregate}/{reason}": n for (aggregate, reason), n in list(stats.rejected.items())}
        counts["wiped"] = {why.name.lower(): n for why, n in list(stats.wiped.items())}
        answer[host.wiring.service.name] = {**counts, "codec": implementation(), "positions": host.lane.positions()}
    return answer


def tell_of_the_codec() -> None:
    """Says once where records take the slow way."""
    if implementation() != "native":
        log.warning(
            "records are read and written by generated Python, several times slower: the extension "
            "pipeline.adapters.avro._native is not built; install again where there is a C compiler"
        )


def calm_the_collector() -> None:
    """Folding makes and drops small values without cycles; looking for cycles among them took an eighth of the time."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def secret_of(services: Sequence[Service], settings: WorkerSettings) -> bytes | None:
    """The secret of their unique values; None where they have none."""
    if not any(aggregate.unique for service in services for aggregate in service.aggregates):
        return None
    if settings.secret_file is None:
        return service_secret(settings.state_dir.parent / "secret", make=True)
    return service_secret(settings.secret_file, make=False)


def run_worker(topology: Topology, settings: WorkerSettings, adapters: Adapters = Adapters()) -> None:
    """Runs until SIGTERM or SIGINT. Raises what ended it, where that was not a signal."""
    failures: list[BaseException] = []
    stopping: list[asyncio.Future[None]] = []

    def fail(error: BaseException) -> None:
        log.error("the worker stops: %s", error)
        failures.append(error)
        stopping.append(asyncio.ensure_future(worker.stop()))

    make = adapters.codecs(topology.schemas)
    services = topology.chosen(settings.services)
    secret = secret_of(services, settings)
    wirings = [Wiring(service, make, topology.names, secret) for service in services]
    client = admin(settings.bootstrap)
    for wiring in wirings:
        check_topics(client, wiring, topology.name)
    versions = Versions(settings.bootstrap, topology)
    versions.check()
    kept = databases(wirings, settings.databases, settings.state_dir, topology.schemas)
    share = settings.cache_bytes // len(wirings)
    slots = [claim_slot(settings.state_dir, wiring.service.name, settings.slot) for wiring in wirings]
    port = choose_port(settings, [stores for _, stores in slots])

    def host(wiring: Wiring, slot: int, stores: RocksStores) -> LaneHost:
        stores.remember_port(port)
        identity = "-".join(part for part in (wiring.group, settings.node, str(slot)) if part)
        shared = kept.get(wiring.service.name)
        opener = lane_opener(wiring, identity, stores, settings, port, adapters, share, shared)
        return LaneHost(wiring, opener, fail)

    # At once: where a killed worker has left transactions open, each producer takes half a second to end them.
    with ThreadPoolExecutor(len(wirings)) as opening:
        hosts = list(opening.map(host, wirings, *zip(*slots, strict=True)))
    app = build_app(hosts, topology, settings, port, adapters, make, versions)
    worker = faust.Worker(app, loglevel=settings.log_level, quiet=True, redirect_stdouts=False, override_logging=False)
    names = ", ".join(wiring.service.name for wiring in wirings)
    log.info("serving %s at http://%s:%d", names, settings.host, port)
    tell_of_the_codec()
    calm_the_collector()
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        if failures:
            raise failures[0] from None
        if ended.code:
            raise
    finally:
        versions.close()
        for _, stores in slots:
            stores.close()
        for shared in kept.values():
            shared.close()

"""The worker process: its lanes, their identity in the groups, and its life from start to signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from pipeline.adapters import descriptors
from pipeline.adapters.avro.codec import implementation
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.owners import client_id
from pipeline.adapters.kafka.reader_versions import Versions
from pipeline.adapters.kafka.schemas.topic import published
from pipeline.adapters.kafka.topics import broker_count, check_counts, check_topics, partition_counts
from pipeline.adapters.rocksdb.stores import RocksStores, claim_slot
from pipeline.adapters.tracing.setup import set_up
from pipeline.engine.context import LanePorts, LaneSettings
from pipeline.engine.copies.histories import Histories
from pipeline.engine.loop.identity import Identity, make_sure_of, slot_name, topics_word
from pipeline.engine.loop.lane import Lane
from pipeline.engine.plan import ServicePlan
from pipeline.engine.stats import LaneStats
from pipeline.engine.tracing.port import Tracer
from pipeline.model import Service
from pipeline.server.access.tokens import AccessTokens
from pipeline.topology import Topology
from pipeline.worker.app import build_app
from pipeline.worker.databases import databases
from pipeline.worker.faust_worker import FaustWorker
from pipeline.worker.host import LaneHost, OpenLane
from pipeline.worker.listening import choose_port, serve_on
from pipeline.worker.open_files import files_for_each_database
from pipeline.worker.room import warn
from pipeline.worker.secrets import home_word, service_secret
from pipeline.worker.settings import LEFT_S, Adapters, MachineClock, WorkerSettings

if TYPE_CHECKING:
    from pipeline.adapters.sql import SqlStores

log = logging.getLogger(__name__)

KAFKA = Adapters()
TRACED_AS = "worker"  # whose the spans are of HTTP requests, and of commands that they send


def lane_opener(
    plan: ServicePlan,
    identity: Identity,
    address: str,
    stores: RocksStores,
    settings: WorkerSettings,
    adapters: Adapters,
    cache_bytes: int,
    shared: SqlStores | None,
    tracer: Tracer | None = None,
) -> OpenLane:
    """What opens a service's lane with its clients, again and again. The lane raises NameTaken; see `make_sure_of`.

    `address`: the client id that says where to ask for its tables.
    """
    group, bootstrap, slot = plan.group, settings.bootstrap, identity.name
    session_s = LEFT_S[settings.group_protocol]

    def open_lane(stats: LaneStats) -> Lane:
        admin(bootstrap)  # raises what is waited for, if no broker answers
        if shared is not None:
            shared.check()  # the same
        clock = MachineClock()
        with ExitStack() as unfinished:  # clients that are closed again if the next one cannot be opened
            consumer = adapters.consumer(bootstrap, group, str(identity), address, settings.group_protocol)
            unfinished.callback(consumer.close)
            make_sure_of(identity, consumer, clock, time.sleep, session_s)
            producer = adapters.producer(bootstrap, slot)
            unfinished.callback(producer.close)
            reader = adapters.reader(bootstrap, f"{slot}-reader")
            unfinished.callback(reader.close)
            past = adapters.reader(bootstrap, f"{slot}-history") if plan.histories else None
            unfinished.pop_all()
        lane_settings = LaneSettings(
            replica_ages=True,
            watch_sagas=True,
            standby=settings.standby,
            commit_interval_s=settings.commit_interval_s,
            cache_bytes=cache_bytes,
            raising_share=settings.raising_share,
            raising_at_least=settings.raising_at_least,
            ending=identity.home if settings.together else "",
        )
        tables = adapters.stores(stores)
        histories = None if past is None else Histories(plan, past, tables, clock, stats)
        kept = shared and adapters.shared(shared)
        replays = partial(adapters.reader, bootstrap, f"{slot}-replay")
        ports = LanePorts(consumer, producer, reader, tables, clock, replays, kept, histories, tracer)
        return Lane(plan, ports, lane_settings, stats)

    return open_lane


def warn_if_slow_codec() -> None:
    """Warn once if records take the slow way."""
    if implementation() != "native":
        log.warning(
            "records are read and written by generated Python, several times slower: the extension "
            "pipeline.adapters.avro._native is not built; install again where a C compiler is available"
        )


def tune_gc() -> None:
    """Tune the collector: folding makes small values without cycles, and searching them took an eighth of the time."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def secret_of(services: Sequence[Service], settings: WorkerSettings) -> bytes | None:
    """The secret of the services' unique values; None if they have none."""
    if not any(aggregate.unique for service in services for aggregate in service.aggregates):
        return None
    if settings.secret_file is None:
        return service_secret(settings.state_dir.parent / "secret", make=True)
    return service_secret(settings.secret_file, make=False)


def run_worker(
    topology: Topology,
    settings: WorkerSettings,
    adapters: Adapters = KAFKA,
    serving: Callable[[str], None] = lambda url: None,
) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP. Raises the error that ended it, if one did.

    `serving`: called with the URL once the HTTP pages are there.
    """
    failures: list[BaseException] = []
    stopping: list[asyncio.Future[None]] = []

    def fail(error: BaseException) -> None:
        log.error("the worker stops: %s", error, extra={"event": "stopping"})
        failures.append(error)
        stopping.append(asyncio.ensure_future(worker.stop()))

    tracing = set_up(TRACED_AS, settings.trace)
    tokens = None if settings.token_file is None else AccessTokens(settings.token_file)
    make = adapters.codecs(topology)
    services = topology.chosen(settings.services)
    secret, home = secret_of(services, settings), home_word(settings.state_dir.parent / "home")
    plans = [ServicePlan(service, make, topology.names, secret) for service in services]
    descriptors.raise_limit()
    client = admin(settings.bootstrap)
    files = files_for_each_database(services, len(topology.services), broker_count(client))
    warn(services, settings.cache_bytes, partition_counts(client), broker_count(client))
    for plan in plans:
        check_topics(client, plan, topology.name)
        check_counts(settings.bootstrap, client, plan)
    schemas = published(settings.bootstrap, make)
    versions = Versions(settings.bootstrap, topology)
    versions.check()
    kept = databases(plans, settings.databases, settings.state_dir, topology)
    share = settings.cache_bytes // len(plans)
    slots = [claim_slot(settings.state_dir, plan.service.name, settings.slot, files) for plan in plans]
    bound = choose_port(settings, [stores for _, stores in slots])
    port = bound.port
    advertised = settings.advertised(port)

    def tracer_of(service: str) -> Tracer | None:
        return None if tracing is None else tracing.of(service)

    def host(plan: ServicePlan, slot: int, stores: RocksStores) -> LaneHost:
        stores.remember_port(port)
        name = slot_name(plan.group, settings.node, slot)
        identity = Identity(name, advertised.number, home, topics_word(plan.source_topics))
        shared = kept.get(plan.service.name)
        opener = lane_opener(
            *(plan, identity, client_id(plan.service.name, advertised.url), stores, settings, adapters, share, shared),
            tracer_of(plan.service.name),
        )
        return LaneHost(plan, opener, fail, stores.figures)

    # At once: if a killed worker has left transactions open, each producer takes half a second to end them.
    with ThreadPoolExecutor(len(plans)) as opening:
        hosts = list(opening.map(host, plans, *zip(*slots, strict=True)))
    tracer = tracer_of(TRACED_AS)
    app, ready_line = build_app(hosts, topology, settings, port, adapters, make, versions, tokens, tracer)
    names = ", ".join(plan.service.name for plan in plans)

    def serves() -> None:
        log.info("serving %s at %s", names, advertised.url, extra={"event": "serving"})
        if (listening := settings.listening()._replace(port=port)) != advertised:
            log.info("listening on %s", listening)
        ready_line.begin()
        serving(advertised.url)

    serve_on(app, bound, settings, serves, fail)
    worker = FaustWorker(app, loglevel=settings.log_level, quiet=True, redirect_stdouts=False, override_logging=False)
    warn_if_slow_codec()
    tune_gc()
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        if failures:
            raise failures[0] from None
        if ended.code:
            raise
    finally:
        versions.close()
        if schemas is not None:
            schemas.close()
        for _, stores in slots:
            stores.close()
        for shared in kept.values():
            shared.close()
        if tracing is not None:
            tracing.close()
        log.info("stopped %s", names, extra={"event": "stopped"})

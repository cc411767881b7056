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
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import faust
from prometheus_client import CollectorRegistry, ProcessCollector

from pipeline.adapters.avro.codec import codecs, implementation
from pipeline.adapters.kafka import KafkaGroupConsumer, KafkaLogReader, KafkaProducer, admin
from pipeline.adapters.tables import RocksStores, claim_slot
from pipeline.adapters.topics import check_topics
from pipeline.errors import BrokerUnreachable, LaneFatal, PipelineError
from pipeline.query.http import QueryApi
from pipeline.query.local import LocalTables
from pipeline.query.routing import Router, client_id
from pipeline.runtime.lane import Batch, Lane, LaneSettings
from pipeline.runtime.metrics import LaneCollector
from pipeline.runtime.ports import GroupConsumer, LogReader, Producer, Stores
from pipeline.runtime.stats import LaneStats
from pipeline.runtime.wiring import Wiring
from pipeline.topology import Topology

log = logging.getLogger(__name__)
T = TypeVar("T")
OpenLane = Callable[[LaneStats], Lane]
REOPEN_S = (0.1, 0.5, 1.0, 2.0, 5.0)
FRUITLESS_MAX = 10  # lanes that are opened one after the other without a single commit, before the worker gives up


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What one worker process runs, and where. `port` 0 takes a free one; `slot` None takes the first free one."""

    bootstrap: str
    state_dir: Path
    services: tuple[str, ...] = ()
    node: str = ""
    slot: int | None = None
    host: str = "127.0.0.1"
    port: int = 0
    standby: bool = False
    group_protocol: str = "classic"
    log_level: str = "INFO"


@dataclass(frozen=True, slots=True)
class Adapters:
    """What a worker's lanes reach the outside world by. Fault injection wraps these; nothing else needs another."""

    consumer: Callable[[str, str, str, str, str], GroupConsumer] = KafkaGroupConsumer
    producer: Callable[[str, str], Producer] = KafkaProducer
    reader: Callable[[str, str], LogReader] = KafkaLogReader
    stores: Callable[[Stores], Stores] = lambda stores: stores


class MachineClock:
    """The machine's own clock."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def time_ms(self) -> int:
        return time.time_ns() // 1_000_000


class LaneHost(faust.Service):
    """Drives one service's lane: turns in a thread of its own, batches by way of the Faust agents.

    A lane that cannot go on is abandoned, and another one opened in its place: that is how broker troubles and fencing
    end. `failed` hears of errors that opening again does not heal.
    """

    abstract = False

    def __init__(self, wiring: Wiring, open_lane: OpenLane, failed: Callable[[BaseException], None]) -> None:
        super().__init__()
        self.wiring, self.stats = wiring, LaneStats()
        self._open_lane, self._failed = open_lane, failed
        self.lane = open_lane(self.stats)
        self.channels: dict[str, Any] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"lane-{wiring.service.name}")
        self._fruitless = 0  # lanes opened since the last commit

    async def in_thread(self, call: Callable[..., T], *args: Any) -> T:
        """Runs `call` in the lane's thread, after all that was handed to it before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    async def lanes(self) -> None:
        """One lane after the other, until the service stops or an error ends the worker."""
        while not self.should_stop:
            commits = self.stats.checkpoints
            try:
                await self.turns()
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                await self.in_thread(self.lane.abandon, error)
                self._fruitless = 0 if self.stats.checkpoints > commits else self._fruitless + 1
                if not await self._another_lane(error):
                    return
        try:
            await self.in_thread(self.lane.close)
        except (LaneFatal, BrokerUnreachable) as error:
            log.warning("%s: stopped without a last commit (%s); nothing is lost", self.wiring.service.name, error)

    async def turns(self) -> None:
        """The turns of one lane."""
        await self.in_thread(self.lane.open)
        while not self.should_stop:
            batches = await self.in_thread(self.lane.poll)
            if batches:
                await asyncio.gather(*[self._hand_out(batch) for batch in batches])
            await self.in_thread(self.lane.settle)

    async def _another_lane(self, error: BaseException) -> bool:
        """Opens a lane in place of the one that `error` has ended; False where that would not help."""
        while True:
            away = isinstance(error, BrokerUnreachable)  # however long: it comes back
            if not away and not (isinstance(error, LaneFatal) and self._fruitless <= FRUITLESS_MAX):
                self._failed(error)
                return False
            pause_s = REOPEN_S[min(self._fruitless, len(REOPEN_S) - 1)]
            log.error("%s: %s; going on from the last commit in %.1f s", self.wiring.service.name, error, pause_s)
            self._fruitless += not away
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause_s)
            if self.should_stop:
                return False
            try:
                self.lane = await self.in_thread(self._open_lane, self.stats)
            except Exception as another:
                error = another
            else:
                self.stats.reopened += 1
                return True

    async def on_started(self) -> None:
        self._turning = self.add_future(self.lanes())

    async def on_stop(self) -> None:
        """Finishes the turn that runs, commits, and gives the partitions back."""
        await asyncio.wait([self._turning])
        self._thread.shutdown()

    async def _hand_out(self, batch: Batch) -> None:
        """Gives a batch to its topic's agent and waits until it is folded: no more is read before that."""
        folded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self.channels[batch.tp.topic].put((batch, folded))
        await folded

    def agent(self) -> Callable[[AsyncIterable[Any]], Awaitable[None]]:
        """What the agent of each source topic does."""

        async def fold(batches: AsyncIterable[tuple[Batch, asyncio.Future[None]]]) -> None:
            async for batch, folded in batches:
                try:
                    await self.in_thread(self.lane.fold, batch)
                except Exception as error:
                    folded.set_exception(error)
                else:
                    folded.set_result(None)

        return fold


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
    wiring: Wiring, slot: str, stores: RocksStores, settings: WorkerSettings, port: int, adapters: Adapters
) -> OpenLane:
    """What opens a service's lane with its clients, again and again.

    The static identity in the group includes the port: the coordinator keeps the client.id of a static member when it
    comes back, and with it the address that queries are routed to.
    """
    service, bootstrap = wiring.service.name, settings.bootstrap
    url = f"http://{settings.host}:{port}"

    def open_lane(stats: LaneStats) -> Lane:
        producer = adapters.producer(bootstrap, slot)
        consumer = adapters.consumer(
            bootstrap, service, f"{slot}-{port}", client_id(service, url), settings.group_protocol
        )
        reader = adapters.reader(bootstrap, f"{slot}-reader")
        lane_settings = LaneSettings(standby=settings.standby)
        return Lane(wiring, consumer, producer, reader, adapters.stores(stores), MachineClock(), lane_settings, stats)

    return open_lane


def build_app(hosts: Sequence[LaneHost], topology: Topology, settings: WorkerSettings, port: int) -> faust.App:
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
    api = QueryApi(
        LocalTables(lambda: ChainMap(*(host.lane.views for host in hosts))),
        Router(admin(settings.bootstrap), topology),
        lambda: status(hosts),
        metrics,
    )
    api.mount(app)
    for host in hosts:
        app._extra_services.append(host)  # type: ignore[arg-type]  # what @app.service does with a class, for a service made already
    app.on_before_shutdown.connect(_closing(api), weak=False)
    return app


def _closing(api: QueryApi) -> Callable[..., Awaitable[None]]:
    async def close(*_: Any, **__: Any) -> None:
        await api.close()

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


def run_worker(topology: Topology, settings: WorkerSettings, adapters: Adapters = Adapters()) -> None:
    """Runs until SIGTERM or SIGINT. Raises what ended it, where that was not a signal."""
    failures: list[BaseException] = []
    stopping: list[asyncio.Future[None]] = []

    def fail(error: BaseException) -> None:
        log.error("the worker stops: %s", error)
        failures.append(error)
        stopping.append(asyncio.ensure_future(worker.stop()))

    wirings = [Wiring(service, codecs(topology.schemas)) for service in topology.chosen(settings.services)]
    client = admin(settings.bootstrap)
    for wiring in wirings:
        check_topics(client, wiring, topology.name)
    slots = [claim_slot(settings.state_dir, wiring.service.name, settings.slot) for wiring in wirings]
    port = choose_port(settings, [stores for _, stores in slots])

    def host(wiring: Wiring, slot: int, stores: RocksStores) -> LaneHost:
        stores.remember_port(port)
        identity = "-".join(part for part in (wiring.service.name, settings.node, str(slot)) if part)
        return LaneHost(wiring, lane_opener(wiring, identity, stores, settings, port, adapters), fail)

    # At once: where a killed worker has left transactions open, each producer takes half a second to end them.
    with ThreadPoolExecutor(len(wirings)) as opening:
        hosts = list(opening.map(host, wirings, *zip(*slots, strict=True)))
    app = build_app(hosts, topology, settings, port)
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
        for _, stores in slots:
            stores.close()

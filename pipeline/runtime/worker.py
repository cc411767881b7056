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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import faust
from prometheus_client import CollectorRegistry, ProcessCollector

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import KafkaGroupConsumer, KafkaLogReader, KafkaProducer, admin
from pipeline.adapters.tables import RocksStores, claim_slot
from pipeline.adapters.topics import check_topics
from pipeline.errors import PipelineError
from pipeline.model import Service
from pipeline.query.http import QueryApi
from pipeline.query.local import LocalTables
from pipeline.query.routing import Router, client_id
from pipeline.runtime.lane import Batch, Lane
from pipeline.runtime.metrics import LaneCollector
from pipeline.runtime.wiring import Wiring
from pipeline.topology import Topology

log = logging.getLogger(__name__)
T = TypeVar("T")


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
    log_level: str = "INFO"


class MonotonicClock:
    """The machine's own clock."""

    def monotonic_s(self) -> float:
        return time.monotonic()


class LaneHost(faust.Service):
    """Drives one lane: turns in the lane's own thread, batches by way of the Faust agents."""

    abstract = False

    def __init__(
        self, lane: Lane, thread: ThreadPoolExecutor, stores: RocksStores, failed: Callable[[BaseException], None]
    ) -> None:
        super().__init__()
        self.lane, self._thread, self._stores, self._failed = lane, thread, stores, failed
        self.channels: dict[str, Any] = {}
        self._broken = False

    async def in_thread(self, call: Callable[..., T], *args: Any) -> T:
        """Runs `call` in the lane's thread, after all that was handed to it before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    async def turns(self) -> None:
        """The lane's turns, until the service stops or the lane fails."""
        try:
            await self.in_thread(self.lane.open)
            while not self.should_stop:
                batches = await self.in_thread(self.lane.poll)
                if batches:
                    await asyncio.gather(*[self._hand_out(batch) for batch in batches])
                await self.in_thread(self.lane.settle)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a lane that cannot go on ends its worker, loudly
            self._broken = True
            self._failed(error)

    async def on_started(self) -> None:
        self._turning = self.add_future(self.turns())

    async def on_stop(self) -> None:
        """Finishes the turn that runs, commits, and gives the partitions back."""
        await asyncio.wait([self._turning])
        await self.in_thread(self.lane.abandon if self._broken else self.lane.close)
        self._thread.shutdown()
        self._stores.close()

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


def free_port(host: str, wanted: int) -> int:
    """`wanted`, or any free port where that is 0. PipelineError where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            raise PipelineError(
                f"cannot listen on {host}:{wanted}: {error.strerror}; choose another --port, or 0 for any free one"
            ) from None
        port: int = probe.getsockname()[1]
        return port


def host_lane(
    service: Service, settings: WorkerSettings, topology: Topology, url: str, fail: Callable[[BaseException], None]
) -> LaneHost:
    """Opens a lane with its clients and its slot, and the service that drives it."""
    wiring = Wiring(service, codecs(topology.schemas))
    check_topics(admin(settings.bootstrap), wiring, topology.name)
    slot, stores = claim_slot(settings.state_dir, service.name, settings.slot)
    identity = "-".join(part for part in (service.name, settings.node, str(slot)) if part)
    producer = KafkaProducer(settings.bootstrap, identity)
    consumer = KafkaGroupConsumer(settings.bootstrap, service.name, identity, client_id(service.name, url))
    reader = KafkaLogReader(settings.bootstrap, f"{identity}-reader")
    lane = Lane(wiring, consumer, producer, reader, stores, MonotonicClock())
    thread = ThreadPoolExecutor(1, thread_name_prefix=f"lane-{identity}")
    return LaneHost(lane, thread, stores, fail)


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
        for topic in host.lane.wiring.inlets:
            channel = host.channels[topic] = app.channel(maxsize=1)
            app.agent(channel, name=f"{host.lane.wiring.service.name}:{topic}")(host.agent())
    views = ChainMap(*(host.lane.views for host in hosts))
    metrics = CollectorRegistry()
    metrics.register(LaneCollector({h.lane.wiring.service.name: h.lane.stats for h in hosts}))
    ProcessCollector(registry=metrics)
    api = QueryApi(LocalTables(views), Router(admin(settings.bootstrap), topology), lambda: status(hosts), metrics)
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
        stats = host.lane.stats
        counts = {name: getattr(stats, name) for name in stats.__slots__ if name != "rejected"}
        rejected = {f"{aggregate}/{reason}": n for (aggregate, reason), n in list(stats.rejected.items())}
        answer[host.lane.wiring.service.name] = {**counts, "rejected": rejected}
    return answer


def calm_the_collector() -> None:
    """Folding makes and drops small values without cycles; looking for cycles among them took an eighth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def run_worker(topology: Topology, settings: WorkerSettings) -> None:
    """Runs until SIGTERM or SIGINT. Raises what ended it, where that was not a signal."""
    port = free_port(settings.host, settings.port)
    url = f"http://{settings.host}:{port}"
    failures: list[BaseException] = []
    stopping: list[asyncio.Future[None]] = []

    def fail(error: BaseException) -> None:
        log.error("the worker stops: %s", error)
        failures.append(error)
        stopping.append(asyncio.ensure_future(worker.stop()))

    hosts = [host_lane(service, settings, topology, url, fail) for service in topology.chosen(settings.services)]
    app = build_app(hosts, topology, settings, port)
    worker = faust.Worker(app, loglevel=settings.log_level, quiet=True, redirect_stdouts=False, override_logging=False)
    log.info("serving %s at %s", ", ".join(host.lane.wiring.service.name for host in hosts), url)
    calm_the_collector()
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        if failures:
            raise failures[0] from None
        if ended.code:
            raise

"""`pipeline demo`, step by step: broker, topics, worker, feed, wait, read, check, show."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient
from rich.console import Console

from pipeline.adapters import descriptors
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import admin, end_offsets
from pipeline.adapters.kafka.owners import Router
from pipeline.adapters.kafka.topics import create_topics, delete_services, partition_counts
from pipeline.broker import local
from pipeline.client import Client
from pipeline.client.drive import Driver
from pipeline.client.holds import Holds
from pipeline.client.queries import QueryClient
from pipeline.demo import checkouts, figures
from pipeline.demo.commands import AMPLE, Way, stocking, trading
from pipeline.demo.folder import Folder, hold
from pipeline.demo.invoices import Invoices, read_invoices
from pipeline.demo.patience import STALLED_S, Patience
from pipeline.demo.progress import Watcher, count_records
from pipeline.demo.shop import NAME
from pipeline.demo.telling.afterwards import Afterwards
from pipeline.demo.telling.happened import show_happened
from pipeline.demo.telling.report import say, shown_path
from pipeline.demo.telling.voice import Voice
from pipeline.demo.worker import LOOK_S, Worker, Workers, stop
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.errors import DemoFolderError, PipelineError, TopicError
from pipeline.model import TopicKind
from pipeline.process import Children
from pipeline.topology import Topology, load

SHIPPED = Path(__file__).parent / "data" / "online_retail_2009-12.csv.gz"
PARTITIONS = 4
FEW_PARTITIONS = 1  # if its broker may open few files: it keeps one open for each partition
FAR_LOOK_S = 0.5  # while the lag is large: each look costs the broker time that the worker needs
FAR_RECORDS = 2_000
ASKED_S = 5.0  # how long to wait for a table before a look at the worker
REPLICA_S = 30.0  # how long to wait for a replica that no longer moves


@dataclass(slots=True)
class Demo:
    """One run. `home` contains its broker, its worker's tables and their logs."""

    home: Path
    console: Console
    bootstrap: str = ""
    processes: int = 1
    keep: bool = False
    fresh: bool = False
    way: Way = AMPLE
    feed_first: bool = False  # send all commands before the worker starts, to measure only its rate
    explains: bool = False  # also follow an order through all services
    topology: Topology = field(default_factory=lambda: load(NAME))
    workers: Workers | None = None  # None: `run` starts the demo's own worker
    _held: Callable[[], Mapping[str, str]] = field(init=False, default=dict)  # see Patience
    _voice: Voice = field(init=False)

    def __post_init__(self) -> None:
        self._voice = Voice(self.console)

    def run(self, source: Path) -> dict[str, Any]:
        """Run everything and return the result as `--json` writes it.

        Raises PipelineError; the logs are kept then, and their paths are printed.
        """
        invoices = read_invoices(source)
        say(
            self.console,
            f"{source.name}: {invoices.rows:,} lines, {len(invoices.documents):,} invoices, {len(invoices.bad):,} bad",
        )
        self._voice.paragraph(
            f"A real shop's invoices go through {len(self.topology.services)} services. Each owns its data alone, and "
            "knows of the others only what they publish in Kafka's topics."
        )
        with hold(self.home) as folder:
            kept = local.find(self.home / "broker")
            if kept is not None and kept.bootstrap == self.bootstrap:
                raise DemoFolderError(
                    f"{self.bootstrap} is the Kafka of the demo that was kept in {self.home}, and would stop with it; "
                    "name another directory with --home"
                )
            stop(self.home)  # what an earlier run has left running
            folder.empty()
            try:
                result = self._trade_in(folder, invoices)
            except BaseException:
                with suppress(PipelineError):
                    stop(self.home)  # in case a signal came after all was released
                self._leave_logs(folder)
                raise
            if not self.keep:
                if result["differences"]:
                    self._leave_logs(folder)
                else:
                    folder.leave()
            return result

    def _leave_logs(self, folder: Folder) -> None:
        if logs := folder.leave_logs():
            with suppress(OSError, SystemExit):  # the output may be closed
                say(self.console, f"kept: {' and '.join(map(shown_path, logs))}")

    def _trade_in(self, folder: Folder, invoices: Invoices) -> dict[str, Any]:
        """Run with a broker and a worker of its own, which end with this process unless they are kept."""
        with Children(holding=(folder.lock,)) as children, ExitStack() as cleanup:
            if self.bootstrap:
                self._voice.step(f"The Kafka on {self.bootstrap} is used")
                broker = None
            else:
                broker = self._start_broker(children, cleanup)
            worker = self.workers = Worker(self.home, self.bootstrap, self.processes, self.console, children)
            cleanup.push(lambda kind, *_: worker.stop() if kind is not None else None)
            result = self.trade(invoices)
            if self.keep:
                worker.release()
                if broker is not None:
                    children.release(broker.pid)
            return result

    def trade(self, invoices: Invoices) -> dict[str, Any]:
        """Run invoices already read through a given broker and given workers."""
        with ExitStack() as cleanup:
            client = admin(self.bootstrap)
            plans = [ServicePlan(service, codecs(self.topology.schemas)) for service in self.topology.chosen(())]
            self._make_topics(client, plans)
            watcher = Watcher(self.bootstrap, client, plans)
            cleanup.callback(watcher.close)
            query = cleanup.enter_context(QueryClient(self.bootstrap, self.topology, ASKED_S))
            driver = cleanup.enter_context(closing(Driver()))
            holds = Holds(Router(client, self.topology), time.monotonic)
            self._held = lambda: driver.run(holds.of(self.topology.services))
            if self.feed_first:
                self._send(invoices)
                worker = cleanup.enter_context(self._worker())
                with self._voice.waiting("waiting for the worker …"):
                    self._wait_for_a_commit(worker, watcher)
                started = time.monotonic()
            else:
                worker = cleanup.enter_context(self._worker())
                with self._voice.waiting("waiting for the worker …"):
                    self._wait_until_ready(worker, query)
                started = time.monotonic()
                self._send(invoices)
            ended, at_rest = self._settle(worker, watcher, query)
            seconds = ended - started
            shown, wrong = self._read_and_check(worker, query, invoices, at_rest)
            records = count_records(self.bootstrap, client, self._topics())
            commands = sum(records[TopicKind.COMMAND.topic(aggregate)] for aggregate in self._aggregates())
            self.console.print()
            show_happened(self.console, self.topology, records)
            look = partial(self._patience, worker)
            afterwards = Afterwards(self._voice, self.bootstrap, self.topology, query, look)
            refused = afterwards.refuse(at_rest, self.way.checkout)
            result = _result(shown, at_rest, invoices, commands, seconds, not wrong)
            return {
                **result,
                "differences": wrong,
                "customer_countries": shown["customer_countries"],
                "compensated": at_rest.sagas["undone"],
                "followed": refused or checkouts.shortest(at_rest) or "",
                **({"explained": afterwards.explain(checkouts.shortest(at_rest), refused)} if self.explains else {}),
            }

    def _topics(self) -> list[str]:
        return [kind.topic(name) for kind in (TopicKind.COMMAND, TopicKind.EVENT) for name in self._aggregates()]

    def _aggregates(self) -> list[str]:
        return [aggregate.name for service in self.topology.services.values() for aggregate in service.owned]

    # --- broker, topics, worker ---------------------------------------------------------------------------------------

    def _start_broker(self, children: Children, cleanup: ExitStack) -> local.Running:
        directory = self.home / "broker"

        def end(kind: type[BaseException] | None, *_: object) -> None:
            if kind is not None or not self.keep:
                local.down(directory)

        cleanup.push(end)
        self._voice.step("A local Kafka starts", "A real one, from pip and Maven jars: no Docker, no Java to install.")
        with self._voice.waiting("starting a local Kafka …"):
            running = local.up(directory, fresh=True, say=lambda text: say(self.console, text), guard=children)
        self.bootstrap = running.bootstrap
        say(self.console, f"     Kafka {local.KAFKA_VERSION} on {self.bootstrap}")
        return running

    def _make_topics(self, client: AdminClient, plans: list[ServicePlan]) -> None:
        own = [topic for plan in plans for topic, _ in plan.own_topics()]
        counts = partition_counts(client)
        ends = end_offsets(client, [TP(topic, n) for topic in own for n in range(counts.get(topic, 0))])
        if self.fresh:
            delete_services(client, plans)
            shutil.rmtree(self.home / "state", ignore_errors=True)
        elif any(ends.values()):
            raise TopicError(
                f"the shop's topics on {self.bootstrap} have records already, so no figure would be right; "
                "use another Kafka, or delete these topics with --fresh"
            )
        create_topics(client, plans, self._partitions(), 1)

    def _partitions(self) -> int:
        if not local.few_files():
            return PARTITIONS
        self._voice.paragraph(
            f"{descriptors.limit()} open files are allowed (ulimit -n): topics get one partition, and the services run "
            "in several processes"
        )
        return FEW_PARTITIONS

    @contextmanager
    def _worker(self) -> Iterator[Workers]:
        worker = self.workers
        assert worker is not None
        self._voice.step(
            f"A worker starts {len(self.topology.services)} services: {', '.join(sorted(self.topology.services))}",
            "Each folds its own commands and what it follows, with its tables on the local disk. Each could run alone.",
        )
        worker.start()
        try:
            yield worker
        except BaseException:
            worker.stop()
            raise
        if not self.keep:
            worker.stop()

    def _patience(self, worker: Workers, stalled_s: float = STALLED_S) -> Patience:
        return Patience(worker, self._held, stalled_s)

    def _wait_until_ready(self, worker: Workers, query: QueryClient) -> None:
        """Wait until every table can be read, that is, until its partitions are assigned and restored."""
        for table in (table for service in self.topology.services.values() for table in service.tables()):
            self._patience(worker).read(lambda table=table: next(query.scan(table, limit=1), None))  # type: ignore[misc]

    def _wait_for_a_commit(self, worker: Workers, watcher: Watcher) -> None:
        patience = self._patience(worker)
        while not any(lag.committed for lag in watcher.look()[0].values()):
            if not patience.look("no commit"):
                raise patience.stalled("the worker does not commit")
            time.sleep(LOOK_S)

    # --- feed and wait ------------------------------------------------------------------------------------------------

    def _send(self, invoices: Invoices) -> None:
        stock, trade = list(stocking(invoices, self.way)), list(trading(invoices, self.way))
        number, sent = len(stock) + len(trade), 0
        self._voice.step(
            f"{number:,} commands are sent: products, stock, customers, orders, returns",
            "A command only asks. It is stored in Kafka before any service acts on it.",
        )
        client = Client(self.bootstrap, self.topology)
        with self._voice.progress("commands sent") as move:
            for part in (stock, trade):
                for asked in part:
                    client.send(asked.aggregate, asked.key, asked.command)
                    sent += 1
                    if sent % 1000 == 0 or sent == number:
                        move("commands", sent, number)
                client.flush()  # products have their stock before anything takes it

    def _settle(self, worker: Workers, watcher: Watcher, query: QueryClient) -> tuple[float, checkouts.Shown]:
        """Wait until nothing is under way. Return since when that is so, and what the tables show.

        What waits for its time, such as a step that will be retried, is in no topic but is seen in the tables. If
        something is still under way STALLED_S after the last record, return that.
        """
        self._voice.step(
            "Each service decides its commands, and follows the others' events",
            "Events, state, replies, further commands and the position are one Kafka transaction: after any crash all "
            "of them are there, once, or none.",
        )
        with self._voice.progress("records folded") as move:
            patience = self._patience(worker)
            while True:
                lags, settled = watcher.look()
                for name, lag in sorted(lags.items()):
                    move(name, lag.committed, lag.ends)
                moves, now = patience.look(sum(lag.committed for lag in lags.values())), time.monotonic()
                if settled:
                    shown = self._patience(worker).read(lambda: checkouts.read(query, self.topology))
                    if not (moves and shown.in_flight):
                        return now, shown
                elif not moves:
                    raise patience.stalled("not all is folded")
                left = sum(lag.ends - lag.committed for lag in lags.values())
                time.sleep(FAR_LOOK_S if left > FAR_RECORDS else LOOK_S)

    # --- read and check -----------------------------------------------------------------------------------------------

    def _read_and_check(
        self, worker: Workers, query: QueryClient, invoices: Invoices, at_rest: checkouts.Shown
    ) -> tuple[figures.Figures, list[str]]:
        self._voice.step(
            "Every figure is read from the services' tables",
            "and compared with sums made straight from the file, without commands, events or folds.",
        )
        scarce, patience = self.way.scarce, self._patience(worker, REPLICA_S)
        refused = self._patience(worker).read(lambda: checkouts.refused(query, at_rest, invoices, scarce))
        expected = figures.from_file(invoices, refused, self.way.stock_ratio)
        with self._voice.waiting("reading the tables …"):
            while True:
                shown = self._patience(worker).read(lambda: figures.from_tables(query))
                wrong = figures.differences(shown, expected)
                lagging = bool(wrong) and all(each.startswith("customer_countries") for each in wrong)
                if not lagging or not patience.look(tuple(wrong)):
                    return shown, [*wrong, *checkouts.broken(at_rest, scarce)]
                time.sleep(LOOK_S)


def _result(
    shown: figures.Figures, at_rest: checkouts.Shown, invoices: Invoices, commands: int, seconds: float, verified: bool
) -> dict[str, Any]:
    bad = [bad._asdict() for bad in invoices.bad]
    names = ("returns", "adjustments", "revenue", "refunds", "units_sold", "stock", "customers", "events")
    return {
        "orders": shown["orders"],
        "refused_by_reason": at_rest.refused_by_reason,
        "in_flight": at_rest.in_flight,
        **{name: shown[name] for name in names},
        "bad_rows": bad,
        "commands": commands,
        "seconds": round(seconds, 3),
        "commands_per_second": round(commands / seconds, 1),
        "verified": verified,
    }

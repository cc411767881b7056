"""`pipeline demo`, step by step: broker, topics, worker, feed, wait, read, check, show."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

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
from pipeline.demo.levels import show_levels
from pipeline.demo.patience import STALLED_S, Patience
from pipeline.demo.progress import Watcher, count_records
from pipeline.demo.report import say, show_checkout, shown_path
from pipeline.demo.shop import NAME
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
    topology: Topology = field(default_factory=lambda: load(NAME))
    workers: Workers | None = None  # None: `run` starts the demo's own worker
    _held: Callable[[], Mapping[str, str]] = field(init=False, default=dict)  # see Patience

    def run(self, source: Path) -> dict[str, Any]:
        """Run everything and return the result as `--json` writes it.

        Raises PipelineError; the logs are kept then, and their paths are printed.
        """
        invoices = read_invoices(source)
        say(
            self.console,
            f"{source.name}: {invoices.rows:,} lines, {len(invoices.documents):,} invoices, {len(invoices.bad):,} bad",
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
            broker = None if self.bootstrap else self._start_broker(children, cleanup)
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
                with self.console.status("waiting for the worker …"):
                    self._wait_for_a_commit(worker, watcher)
                started = time.monotonic()
            else:
                worker = cleanup.enter_context(self._worker())
                with self.console.status("waiting for the worker …"):
                    self._wait_until_ready(worker, query)
                started = time.monotonic()
                self._send(invoices)
            ended, at_rest = self._settle(worker, watcher, query)
            seconds = ended - started
            shown, wrong = self._read_and_check(worker, query, invoices, at_rest)
            commands = count_records(self.bootstrap, client, [TopicKind.COMMAND.topic(a) for a in self._aggregates()])
            with Client(self.bootstrap, self.topology, "demo") as sender:
                show_levels(self.console, sender, query)
            saga = f"checkout_{self.way.checkout}"
            self._patience(worker).read(lambda: show_checkout(self.console, query, saga, at_rest))
            result = _result(shown, at_rest, invoices, commands, seconds, not wrong)
            return {
                **result,
                "differences": wrong,
                "customer_countries": shown["customer_countries"],
                "compensated": at_rest.sagas["undone"],
            }

    def _aggregates(self) -> list[str]:
        return [aggregate.name for service in self.topology.services.values() for aggregate in service.owned]

    # --- broker, topics, worker ---------------------------------------------------------------------------------------

    def _start_broker(self, children: Children, cleanup: ExitStack) -> local.Running:
        directory = self.home / "broker"

        def end(kind: type[BaseException] | None, *_: object) -> None:
            if kind is not None or not self.keep:
                local.down(directory)

        cleanup.push(end)
        with self.console.status("starting a local Kafka …"):
            running = local.up(directory, fresh=True, say=lambda text: say(self.console, text), guard=children)
        self.bootstrap = running.bootstrap
        self.console.print(f"Kafka {local.KAFKA_VERSION} on {self.bootstrap}")
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
        self.console.print(
            f"{descriptors.limit()} open files are allowed (ulimit -n): topics get one partition, and the services run "
            "in several processes",
            soft_wrap=True,
        )
        return FEW_PARTITIONS

    @contextmanager
    def _worker(self) -> Iterator[Workers]:
        worker = self.workers
        assert worker is not None
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

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self.console)

    def _send(self, invoices: Invoices) -> None:
        stock, trade = list(stocking(invoices, self.way)), list(trading(invoices, self.way))
        client = Client(self.bootstrap, self.topology)
        with self._progress() as progress:
            sent = progress.add_task("commands sent", total=len(stock) + len(trade))
            for part in (stock, trade):
                for n, asked in enumerate(part, 1):
                    client.send(asked.aggregate, asked.key, asked.command)
                    if n % 1000 == 0:
                        progress.advance(sent, 1000)
                client.flush()  # products have their stock before anything takes it
                progress.advance(sent, len(part) % 1000)

    def _settle(self, worker: Workers, watcher: Watcher, query: QueryClient) -> tuple[float, checkouts.Shown]:
        """Wait until nothing is under way. Return since when that is so, and what the tables show.

        What waits for its time, such as a step that will be retried, is in no topic but is seen in the tables. If
        something is still under way STALLED_S after the last record, return that.
        """
        with self._progress() as progress:
            bars = {name: progress.add_task(f"{name} folding", total=None) for name in sorted(self.topology.services)}
            patience = self._patience(worker)
            while True:
                lags, settled = watcher.look()
                for name, lag in lags.items():
                    progress.update(bars[name], completed=lag.committed, total=lag.ends)
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
        scarce, patience = self.way.scarce, self._patience(worker, REPLICA_S)
        refused = self._patience(worker).read(lambda: checkouts.refused(query, at_rest, invoices, scarce))
        expected = figures.from_file(invoices, refused, self.way.stock_ratio)
        with self.console.status("reading the tables …"):
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

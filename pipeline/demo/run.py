"""`pipeline demo`, step by step: broker, topics, worker, feed, wait, read, check, show."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import READING, admin, end_offsets
from pipeline.adapters.topics import create_topics, delete_services, partition_counts
from pipeline.broker import local
from pipeline.client import Client
from pipeline.demo import figures
from pipeline.demo.commands import stocking, trading
from pipeline.demo.invoices import Invoices, read_invoices
from pipeline.demo.levels import show_levels
from pipeline.demo.progress import Watcher
from pipeline.errors import PipelineError, TopicError
from pipeline.model import TopicKind
from pipeline.query.client import QueryClient
from pipeline.runtime.ports import TP
from pipeline.runtime.processes import NEEDS_CURE
from pipeline.runtime.wiring import Wiring
from pipeline.topology import Topology, load

SHIPPED = Path(__file__).parent / "data" / "online_retail_2009-12.csv.gz"
PARTITIONS = 4
LOOK_S = 0.1
FAR_LOOK_S = 0.5  # while much is left: asking costs the broker time that the worker needs
FAR_RECORDS = 2_000
READY_S = 60.0
STALLED_S = 120.0  # without any progress for so long, the demo gives up
REPLICA_S = 10.0  # a replica is eventual; how long it is given
WORKER_STOP_S = 20.0
SHOP = "topologies"


@dataclass(slots=True)
class Demo:
    """One run. `home` holds its broker, its worker's tables and their logs."""

    home: Path
    console: Console
    bootstrap: str = ""
    processes: int = 1
    keep: bool = False
    fresh: bool = False
    feed_first: bool = False  # all commands are there before the worker starts: its rate alone is measured
    topology: Topology = field(default_factory=lambda: load(SHOP))

    def run(self, source: Path) -> dict[str, Any]:
        """Everything, and the result as `--json` writes it."""
        say = self.console.print
        invoices = read_invoices(source)
        say(f"{source.name}: {invoices.rows:,} lines, {len(invoices.documents):,} invoices, {len(invoices.bad):,} bad")
        with ExitStack() as cleanup:
            self._start_broker(cleanup)
            client = admin(self.bootstrap)
            wirings = [Wiring(service, codecs(self.topology.schemas)) for service in self.topology.chosen(())]
            self._make_topics(client, wirings)
            watcher = Watcher(self.bootstrap, client, wirings)
            cleanup.callback(watcher.close)
            query = cleanup.enter_context(QueryClient(self.bootstrap, self.topology, READY_S))
            if self.feed_first:
                self._send(invoices)
                worker = cleanup.enter_context(self._worker())
                with self.console.status("waiting for the worker …"):
                    self._wait_for_a_commit(worker, watcher)
                started = time.monotonic()
            else:
                worker = cleanup.enter_context(self._worker())
                with self.console.status("waiting for the worker …"):
                    self._wait_until_ready(query, worker)
                started = time.monotonic()
                self._send(invoices)
            self._settle(worker, watcher)
            seconds = time.monotonic() - started
            shown, wrong = self._read_and_check(query, invoices)
            commands = count_records(self.bootstrap, client, [TopicKind.COMMAND.topic(a) for a in self._aggregates()])
            with Client(self.bootstrap, self.topology, "demo") as sender:
                show_levels(self.console, sender, query)
            result = _result(shown, invoices, commands, seconds, not wrong)
            return {**result, "differences": wrong, "customer_countries": shown["customer_countries"]}

    def _aggregates(self) -> list[str]:
        return [aggregate.name for service in self.topology.services.values() for aggregate in service.owned]

    # --- broker, topics, worker ---------------------------------------------------------------------------------------

    def _start_broker(self, cleanup: ExitStack) -> None:
        if self.bootstrap:
            return
        stop(self.home)  # what an earlier run with --keep has left
        shutil.rmtree(self.home, ignore_errors=True)
        with self.console.status("starting a local Kafka …"):
            running = local.up(self.home / "broker", fresh=True, say=self.console.print)
        self.bootstrap = running.bootstrap
        self.console.print(f"Kafka {local.KAFKA_VERSION} on {self.bootstrap}")
        if not self.keep:
            cleanup.callback(shutil.rmtree, self.home, ignore_errors=True)
            cleanup.callback(local.down, self.home / "broker")

    def _make_topics(self, client: AdminClient, wirings: list[Wiring]) -> None:
        own = [topic for wiring in wirings for topic, _ in wiring.own_topics()]
        counts = partition_counts(client)
        ends = end_offsets(client, [TP(topic, n) for topic in own for n in range(counts.get(topic, 0))])
        if self.fresh:
            delete_services(client, wirings)
            shutil.rmtree(self.home / "state", ignore_errors=True)
        elif any(ends.values()):
            raise TopicError(
                f"the shop's topics on {self.bootstrap} hold records already, so no figure would come out right; "
                "use another Kafka, or throw all they hold away with --fresh"
            )
        create_topics(client, wirings, PARTITIONS, 1)

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        worker = Worker(self.home, self.bootstrap, self.processes, self.console)
        worker.start()
        try:
            yield worker
        except BaseException:
            worker.stop()
            raise
        if not self.keep:
            worker.stop()

    def _wait_until_ready(self, query: QueryClient, worker: Worker) -> None:
        """Until every table can be read, which is when its partitions are assigned and restored."""
        worker.revive()
        for service in self.topology.services.values():
            for table in service.tables():
                next(query.scan(table, limit=1), None)

    def _wait_for_a_commit(self, worker: Worker, watcher: Watcher) -> None:
        deadline = time.monotonic() + READY_S
        while not any(lag.committed for lag in watcher.look()[0].values()):
            worker.revive()
            if time.monotonic() > deadline:
                raise PipelineError(f"the worker does not begin; its log says why: {worker.log}")
            time.sleep(LOOK_S)

    # --- feed and wait ------------------------------------------------------------------------------------------------

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self.console)

    def _send(self, invoices: Invoices) -> None:
        stock, trade = list(stocking(invoices)), list(trading(invoices))
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

    def _settle(self, worker: Worker, watcher: Watcher) -> None:
        with self._progress() as progress:
            bars = {name: progress.add_task(f"{name} folding", total=None) for name in sorted(self.topology.services)}
            moved, last = time.monotonic(), -1
            while True:
                worker.revive()
                lags, settled = watcher.look()
                for name, lag in lags.items():
                    progress.update(bars[name], completed=lag.committed, total=lag.ends)
                done = sum(lag.committed for lag in lags.values())
                if done != last:
                    moved, last = time.monotonic(), done
                if settled:
                    return
                if time.monotonic() - moved > STALLED_S:
                    raise PipelineError(
                        f"nothing has moved for {STALLED_S:.0f} s; the worker's log says why: {worker.log}"
                    )
                left = sum(lag.ends - lag.committed for lag in lags.values())
                time.sleep(FAR_LOOK_S if left > FAR_RECORDS else LOOK_S)

    # --- read and check -----------------------------------------------------------------------------------------------

    def _read_and_check(self, query: QueryClient, invoices: Invoices) -> tuple[figures.Figures, list[str]]:
        expected = figures.from_file(invoices)
        deadline = time.monotonic() + REPLICA_S
        with self.console.status("reading the tables …"):
            while True:
                shown = figures.from_tables(query)
                wrong = figures.differences(shown, expected)
                lagging = bool(wrong) and all(each.startswith("customer_countries") for each in wrong)
                if not lagging or time.monotonic() > deadline:
                    return shown, wrong
                time.sleep(LOOK_S)


class Worker:
    """The demo's worker process; started again when it dies, as a supervisor would."""

    def __init__(self, home: Path, bootstrap: str, processes: int, console: Console) -> None:
        self.log = home / "worker.log"
        self._home, self._console = home, console
        self._command = [sys.executable, "-m", "pipeline", "worker", SHOP, "--bootstrap", bootstrap]
        self._command += ["--home", str(home), "--processes", str(processes)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; its log is appended to."""
        self._home.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as out:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        (self._home / "worker.json").write_text(json.dumps({"pid": self._process.pid}))

    def revive(self) -> None:
        """Starts it again if it has died. PipelineError where starting again would not help."""
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return
        if code == NEEDS_CURE:
            tail = self.log.read_text().strip().splitlines()[-1:]
            raise PipelineError(f"the worker ended with code {code}: {' '.join(tail)} (log: {self.log})")
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        self._console.print(f"[yellow]the worker was ended {how}; starting it again[/]")
        self.start()

    def stop(self) -> None:
        """Ends it, gracefully if it can."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(WORKER_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def stop(home: Path) -> bool:
    """Ends what `pipeline demo --keep` has left running; False where nothing was."""
    stopped = False
    try:
        pid = int(json.loads((home / "worker.json").read_text())["pid"])
        if f"--home\0{home}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGTERM)
            stopped = True
            deadline = time.monotonic() + WORKER_STOP_S
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(LOOK_S)
    except (OSError, ValueError, KeyError):
        pass
    return local.down(home / "broker") or stopped


def count_records(bootstrap: str, client: AdminClient, topics: list[str]) -> int:
    """How many committed records stand on `topics`; markers and aborted ones not counted."""
    counts = partition_counts(client)
    parts = [TopicPartition(topic, n, OFFSET_BEGINNING) for topic in topics for n in range(counts[topic])]
    consumer = Consumer(READING | {"bootstrap.servers": bootstrap, "group.id": "pipeline-demo-count"})
    consumer.assign(parts)
    found, open_parts = 0, len(parts)
    try:
        while open_parts:
            for message in consumer.consume(10_000, 0.2):
                error = message.error()
                if error is None:
                    found += 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_parts -= 1
    finally:
        consumer.close()
    return found


def _result(
    shown: figures.Figures, invoices: Invoices, commands: int, seconds: float, verified: bool
) -> dict[str, Any]:
    bad = [bad._asdict() for bad in invoices.bad]
    names = ("orders", "returns", "adjustments", "revenue", "refunds", "units_sold", "stock", "customers", "events")
    return {
        **{name: shown[name] for name in names},
        "bad_rows": bad,
        "commands": commands,
        "seconds": round(seconds, 3),
        "commands_per_second": round(commands / seconds, 1),
        "verified": verified,
    }

"""What /metrics exposes: each HELP text is read alone, and docs/metrics.md lists what there is, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from pipeline.adapters.memory.clock import MemoryClock
from pipeline.adapters.rocksdb.database import StateFigures
from pipeline.client.wire.read_options import ReadOptions
from pipeline.engine.places import Place, Restore, SagaFigures, WaitsFor
from pipeline.engine.ports import TP, Batch
from pipeline.engine.stats import OTHER_REASONS, REASONS_MAX, LaneStats, Wipe
from pipeline.server.reads.timings import ReadTimings
from pipeline.worker.metrics.lag import LagCollector
from pipeline.worker.metrics.lag_watch import LagWatch
from pipeline.worker.metrics.lanes import LaneCollector
from pipeline.worker.metrics.reads import ReadCollector
from pipeline.worker.metrics.state import StateCollector

ROOT = Path(__file__).parents[3]
POINTING = re.compile(r"\b(these|those|this|such)\b", re.IGNORECASE)
ROW = re.compile(r"^\| `(pipeline_\w+)` \| (\w+) \|([^|]*)\| ([^|]+) \|$", re.MULTILINE)
ELSEWHERE = {"pipeline_watchers"}  # registered where they are counted
TILL = TP("tills.command", 0)


class Named(NamedTuple):
    """A metric as an operator meets it: its type, and its labels."""

    type: str
    labels: frozenset[str]


def filled() -> LaneStats:
    """What a lane has counted that has counted everything."""
    stats = LaneStats()
    stats.reject("users", "taken")
    stats.leave_out("revenue")
    stats.cached("users", 1, 1)
    stats.wipe(Wipe.DAMAGED)
    stats.replica_keys["customers"] = 1
    stats.timings.folded(Batch(TP("users.command", 0), []), 0, 0.1, 0)
    return stats


class FilledPlaces:
    """A lane with a partition that is being restored, and with copies."""

    def all(self) -> dict[TP, Place]:
        return {TILL: Place(True, 3, 0, WaitsFor.RESTORE, Restore(1, 2))}

    def copy_ages(self) -> dict[tuple[str, str], float]:
        return {("customers", "replica"): 1.0}

    def cache_bytes(self) -> int:
        return 1

    def sagas(self) -> dict[str, SagaFigures]:
        return {"checkout": SagaFigures({"stuck": 1}, 1, 1)}


class FilledLogs:
    """A log with a record to fold."""

    def ends(self, partitions: Sequence[TP]) -> dict[TP, int]:
        return dict.fromkeys(partitions, 4)

    def firsts(self, partitions: Sequence[TP]) -> dict[TP, int]:
        return dict.fromkeys(partitions, 0)

    def appended_ms(self, starts: Mapping[TP, int]) -> dict[TP, int | None]:
        return dict.fromkeys(starts, 1)


def registry() -> CollectorRegistry:
    """All that is collected from a lane that has everything."""
    clock, found = MemoryClock(), CollectorRegistry()
    watch = LagWatch(lambda: {"users": FilledPlaces()}, FilledLogs(), clock)  # type: ignore[dict-item]
    watch.look()
    found.register(LaneCollector({"users": filled()}, clock))
    found.register(LagCollector(watch))
    sizes = {"users": {"tables": StateFigures(1, 2, 3)}}
    found.register(StateCollector(watch.places, lambda: sizes, ["checkout"], clock))
    reads = ReadTimings()
    reads.observe(ReadOptions(), 200, 0.1)
    found.register(ReadCollector(reads))
    return found


def collected() -> list[Metric]:
    return list(registry().collect())


def exposed() -> dict[str, Named]:
    """The metrics of a worker by the names that they have in queries."""
    found = {}
    for metric in collected():
        labels = {name for sample in metric.samples for name in sample.labels} - {"le"}
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        found[name] = Named(metric.type, frozenset(labels))
    return found


def test_a_help_text_speaks_for_itself() -> None:
    texts = {metric.name: metric.documentation for metric in collected()}
    assert len(set(texts.values())) == len(texts)
    for name, text in texts.items():
        assert text[0].isupper(), f"{name}: {text}"
        assert not POINTING.search(text), f"{name}: {text}"


def labels_of(cell: str) -> frozenset[str]:
    """The labels that a cell of the page names, and `service`, unless it says that there is none."""
    named = frozenset(re.findall(r"\w+", cell.replace("no `service`", "")))
    return named if "no `service`" in cell else named | {"service"}


def test_the_page_lists_each_metric_with_its_type_and_labels() -> None:
    rows = ROW.findall((ROOT / "docs" / "metrics.md").read_text())
    listed = {name: Named(kind, labels_of(cell)) for name, kind, cell, _ in rows}
    assert len(listed) == len(rows), "each is listed once"
    for name in ELSEWHERE:
        assert listed.pop(name)
    assert listed == exposed()


def test_names_follow_the_conventions() -> None:
    for name, metric in exposed().items():
        assert name.endswith("_total") == (metric.type == "counter"), name
        assert not re.search(r"(_ms|_s|_milliseconds|_mb|_kb)$", name), f"{name}: seconds and bytes"


def test_other_pages_name_metrics_that_exist() -> None:
    listed = {name for name, *_ in ROW.findall((ROOT / "docs" / "metrics.md").read_text())}
    source = "\n".join(path.read_text() for path in ROOT.glob("pipeline/**/*.py"))  # metrics of clients, other names
    for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")):
        for name in re.findall(r"`(pipeline_\w+)", page.read_text()):
            assert name in listed or f'"{name.removesuffix("_total")}"' in source, f"{page.name}: {name}"


def test_reasons_beyond_a_bound_are_counted_together() -> None:
    stats = LaneStats()
    for n in range(REASONS_MAX + 50):
        stats.reject("users", f"reason {n}")
    stats.reject("users", "reason 0")
    assert len(stats.rejected) == REASONS_MAX + 1
    assert stats.rejected["users", OTHER_REASONS] == 50
    assert stats.rejected["users", "reason 0"] == 2


def test_a_prometheus_reads_it() -> None:
    read = {metric.name for metric in text_string_to_metric_families(generate_latest(registry()).decode())}
    assert read == {metric.name for metric in collected()}

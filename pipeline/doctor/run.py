"""All checks of a home, a topology and its cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from pipeline.adapters.kafka import admin
from pipeline.doctor.check import PATIENCE_S, Check, Checked, ok, run_checks, skipped, wrong
from pipeline.doctor.cluster import Cluster
from pipeline.doctor.machine import disk, locks, memory, open_files, versions
from pipeline.errors import PipelineError
from pipeline.topology import Topology

OF_CLUSTER = ("broker", "settings", "topics", "schemas", "clock", "permissions", "transactions", "groups", "workers")


def examine(
    home: Path,
    topology: Callable[[], Topology],
    address: Callable[[], str],
    services: Sequence[str] = (),
    patience_s: float = PATIENCE_S,
) -> Iterator[Checked]:
    """Yield what all checks find. What has to be there for others, the topology and the broker, is checked first."""
    checks: dict[str, Check] = {
        "versions": versions,
        "disk": partial(disk, home),
        "memory": memory,
        "locks": partial(locks, home / "state"),
    }
    yield from run_checks(checks, patience_s)
    try:
        loaded = topology()
        chosen = loaded.chosen(tuple(services))
    except PipelineError as error:
        yield Checked("topology", wrong(str(error), "as it says"))
        yield from (Checked(name, skipped("there is no topology; see there")) for name in ("open files", *OF_CLUSTER))
        return
    yield Checked("topology", ok(f"{loaded.name}: {len(chosen)} services"))
    try:
        bootstrap = address()
        client = admin(bootstrap)
    except PipelineError as error:
        yield from run_checks({"open files": partial(open_files, chosen, len(loaded.services), 1)}, patience_s)
        yield Checked("broker", wrong(str(error), "as it says"))
        yield from (Checked(name, skipped("no broker answers; see there")) for name in OF_CLUSTER if name != "broker")
        return
    cluster = Cluster(bootstrap, client, loaded, services)
    count = bootstrap.count(",") + 1
    of_cluster: dict[str, Check] = {name: getattr(cluster, name) for name in OF_CLUSTER}
    files = partial(open_files, chosen, len(loaded.services), count)
    yield from run_checks({"open files": files} | of_cluster, patience_s)

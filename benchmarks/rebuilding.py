"""How fast a projection's next version is built, from the beginning of the event logs that it is folded from."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.kafka import admin
from pipeline.client import Client
from pipeline.rebuild.building import Progress, build
from pipeline.rebuild.subject import prepare, subject
from pipeline.topology import Topology
from topologies.orders import Line, ReturnGoods
from topologies.reports import customers

WAIT_S = 120.0


def returns(address: str, topology: Topology, count: int, keys: int) -> None:
    """Sends so many returns of so many customers; comes back when orders has decided them."""
    with Client(address, topology, "benchmark") as client:
        for n in range(count):
            lines = (Line("TEA", 1, 1000),)
            client.send("orders", f"r{n}", ReturnGoods(f"u{n % keys}", "France", "2009-12-01T10:00:00", lines))
        client.flush()
        for n in range(50):  # of all partitions, behind the others
            client.send("orders", f"last-{n}", ReturnGoods("u0", "France", "2009-12-01T10:00:00", lines), wait=WAIT_S)


def rebuild(address: str, topology: Topology, home: Path) -> dict[str, Any]:
    """Builds the next version of the shop's `customers` in this process; records a second, events and by key."""
    schemas = home / "schemas"
    shutil.copytree(topology.schemas, schemas)
    for kind in ("row", "by_key"):
        shutil.copy(schemas / f"customers.{kind}.avsc", schemas / f"customers_v2.{kind}.avsc")
    Registry(schemas).register()
    reports = topology.services["reports"]
    more = replace(reports, projections=[*reports.projections, replace(customers, version=2)])
    target = subject(replace(topology, services={**topology.services, "reports": more}, schemas=schemas), "customers")
    prepare(admin(address), target, topology.name)
    progress = Progress(address, admin(address), target)
    began = time.perf_counter()
    try:
        build(address, target, home / "state", "benchmark", progress, lambda done, total: None)
    finally:
        progress.close()
    seconds = time.perf_counter() - began
    rate = round(progress.total / seconds)
    return {"what": "rebuild of customers", "records": progress.total, "seconds": seconds, "records/s": rate}

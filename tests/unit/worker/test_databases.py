"""Which database a worker opens, from what projections declare and what it is told."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import Database, Service
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.sql import SqlStores
from pipeline.engine.plan import ServicePlan
from pipeline.errors import DatabaseUnusable, TopologyError
from pipeline.topology import Topology
from pipeline.worker.databases import databases, parse_databases, without_tables
from topologies import reports

PG = "postgresql://me:secret@127.0.0.1:1/db"


def opened(topology: Topology, told: dict[str, str], home: Path, kind: Database = Database.SQLITE) -> SqlStores | None:
    projections = [replace(p, database=kind) for p in (reports.units_sold, reports.products)]
    plan = ServicePlan(Service("reports", projections=projections), codecs(topology.schemas))
    return databases([plan], told, home, topology).get("reports")


def test_a_file_in_the_state_directory_unless_the_worker_says_otherwise(
    shop_topology: Topology, tmp_path: Path
) -> None:
    first = opened(shop_topology, {}, tmp_path)
    assert first is not None
    first.check()
    assert (tmp_path / "reports" / "reports.sqlite").exists()
    other = opened(shop_topology, {"reports": f"sqlite:///{tmp_path}/elsewhere/x.sqlite"}, tmp_path)
    assert other is not None
    other.check()
    assert (tmp_path / "elsewhere" / "x.sqlite").exists()
    assert opened(shop_topology, {"reports": PG}, tmp_path)
    first.close()
    other.close()


def test_a_later_version_is_in_the_database_of_its_service(shop_topology: Topology, tmp_path: Path) -> None:
    later = replace(reports.products, database=Database.SQLITE, version=2)
    make = codecs(shop_topology.schemas)
    topology = Topology("t", {"reports": Service("reports", projections=[reports.units_sold, later])}, tmp_path)

    def codec(topic: str, *rest: Any, **more: Any) -> Any:
        return make(topic.replace("_v2", ""), *rest, **more)

    plans = [ServicePlan(service, codec) for service in topology.chosen(())]
    opened = databases(plans, {}, tmp_path, shop_topology)
    opened["reports_products_v2"].check()
    assert {stores.service for stores in opened.values()} == {"reports"}
    assert (tmp_path / "reports" / "reports.sqlite").exists()
    for stores in opened.values():
        stores.close()
    assert without_tables(["reports"], topology) is None


def test_local_tables_need_none(shop_topology: Topology, tmp_path: Path) -> None:
    assert opened(shop_topology, {}, tmp_path, Database.ROCKSDB) is None


@pytest.mark.parametrize("told", [{}, {"reports": "sqlite:///x.sqlite"}])
def test_who_needs_postgresql_gets_nothing_else(shop_topology: Topology, tmp_path: Path, told: dict[str, str]) -> None:
    with pytest.raises(DatabaseUnusable, match="--database reports=postgresql://"):
        opened(shop_topology, told, tmp_path, Database.POSTGRESQL)
    assert opened(shop_topology, {"reports": PG}, tmp_path, Database.POSTGRESQL)


def test_what_is_told_names_the_service() -> None:
    assert parse_databases(["reports=sqlite:///a=b", "x=y"]) == {"reports": "sqlite:///a=b", "x": "y"}
    with pytest.raises(DatabaseUnusable, match="SERVICE=URL") as told:
        parse_databases(["postgresql://me:secret@host/db"])
    assert "secret" not in str(told.value)


def test_projections_that_are_folded_together_are_kept_together() -> None:
    local = replace(reports.products, name="names", database=Database.ROCKSDB)
    with pytest.raises(TopologyError, match="'products' and 'names' are folded from the same topic"):
        Service("reports", projections=[reports.products, local])
    Service("reports", projections=[reports.products, replace(local, database=Database.SQLITE)])


def test_who_keeps_nothing_in_a_database_does_not_wait_for_what_it_needs() -> None:
    code = "import sys, pipeline.worker.main, pipeline.cli.worker; sys.exit('sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

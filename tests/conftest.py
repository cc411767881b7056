"""A real Kafka for the whole run, started and stopped by the project's own local broker."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from pipeline.adapters.kafka import admin_client
from pipeline.broker import local
from pipeline.demo.invoices import COLUMNS, Invoices, read_invoices
from pipeline.topology import Topology, load
from tests.helpers.postgres import INSTALL, Postgres, binaries, server
from tests.helpers.support import Shop
from tests.simulation.worlds.seeds import FRESH

ROOT = Path(__file__).parent.parent

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_report_header() -> str:
    return f"simulation: fresh seeds from {FRESH}; SIMULATION_SEED={FRESH} takes them again"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the workers of a failed test have said: one that does not serve says why, or what it waits for."""
    report = yield
    if report.failed and report.when == "call":
        for shop in (each for each in getattr(item, "funcargs", {}).values() if isinstance(each, Shop)):
            report.sections += [(f"{log.name}, {ended}", text) for log, ended, text in shop.told()]
    return report


@pytest.fixture(autouse=True)
def nothing_imported_stays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget after a test what it has imported from temporary folders: the next one may have a module of that name."""
    path, before = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    temporary = str(tmp_path_factory.getbasetemp().parent)
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]  # a namespace has no file
        if any(str(place).startswith(temporary) for place in places):
            del sys.modules[name]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a broker that all tests of a run share; each uses topics or names of its own, or a Shop."""
    home = tmp_path_factory.mktemp("kafka")
    running = local.up(home)
    yield running.bootstrap
    admin_client.cache_clear()  # while the broker can still answer what was asked last
    local.down(home)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that all tests of a run share; each makes a database of its own."""
    programs = binaries()
    if programs is None:
        why = f"PostgreSQL IS NOT TESTED: no server is installed here; get one with: {INSTALL}"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    with server(programs) as running:
        yield running


@pytest.fixture(scope="session")
def shop_topology() -> Topology:
    return load("topologies")


@pytest.fixture
def shop(kafka: str, tmp_path: Path, shop_topology: Topology) -> Iterator[Shop]:
    """The shop with empty topics and no worker yet."""
    made = Shop(kafka, tmp_path, shop_topology)
    yield made
    made.close()


@pytest.fixture(scope="session")
def invoices(tmp_path_factory: pytest.TempPathFactory) -> Invoices:
    """A small file: 60 orders and 20 returns of 10 customers in 3 countries, 12 products, and an adjustment each."""
    rows = [",".join(COLUMNS)]
    for n in range(80):
        number, sign = (f"{n + 1}", 1) if n % 4 else (f"C{n + 1}", -1)
        country = ("France", "Spain", "United Kingdom")[n % 3]
        for line in range(3):
            code, quantity, price = f"P{(n + line) % 12}", sign * (n % 5 + 1), f"{line + 1}.25"
            rows.append(f"{number},{code},THING,{quantity},2009-12-{n % 28 + 1:02} 10:00:00,{price},{n % 10},{country}")
    rows += [f"9999,P{n},lost,{-n - 1},2009-12-31 10:00:00,0,,France" for n in range(12)]
    path = tmp_path_factory.mktemp("input") / "small.csv"
    path.write_text("\n".join(rows) + "\n")
    return read_invoices(path)

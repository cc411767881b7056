"""`pipeline demo` as a person runs it, and the December slice with its worker killed half way."""

import gzip
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from pipeline.adapters.kafka import end_offsets
from pipeline.broker import local
from pipeline.demo import figures
from pipeline.demo.commands import stocking, trading
from pipeline.demo.invoices import COLUMNS, read_invoices
from pipeline.demo.run import SHIPPED
from pipeline.runtime.ports import TP
from tests.support import Shop, until

LINES = """\
1,tea,TEA,2,2009-12-01 07:45:00,1.5,17850,France
1,POT,POT,1,2009-12-01 07:45:00,10,17850,France
1,TEA,TEA,3,2009-12-01 07:45:00,1.5,17850,France
2,TEA,TEA,1,2009-12-02 09:00:00,1.25,,Spain
A1,TEA,TEA,1,2009-12-02 09:00:00,1.25,,Spain
C3,TEA,TEA,-1,2009-12-03 09:00:00,1.5,17850,United Kingdom
4,POT,broken,-3,2009-12-04 09:00:00,0,,United Kingdom
5,POT,POT,0,2009-12-04 09:00:00,2,,United Kingdom
"""
EXPECTED = {
    "orders": {"placed": 2, "confirmed": 2, "refused": 0},
    "refused_by_reason": {},
    "in_flight": 0,
    "returns": 1,
    "adjustments": 1,
    "bad_rows": [
        {"line": 6, "reason": "invoice number 'A1' is neither digits nor C and digits"},
        {"line": 9, "reason": "quantity is 0"},
    ],
    "revenue": {"France": {"2009-12-01": 17500}, "Spain": {"2009-12-02": 1250}},
    "refunds": {"United Kingdom": {"2009-12-03": 1500}},
    "units_sold": {"TEA": 6, "POT": 1},
    "stock": {"TEA": 1, "POT": 0},
    "customers": {
        "17850": {"orders": 1, "spent": 17500, "refunded": 1500},
        "guest-Spain": {"orders": 1, "spent": 1250, "refunded": 0},
    },
    # 2 products registered and stocked, 2 customers, 1 move, 2 orders, 1 return, 1 adjustment: 11. The checkouts hold
    # and settle each of 2 orders, 2 charges and 3 lots of stock (order 1 has two products): 14. 1 lot is put back, and
    # refunded.
    "events": 11 + 14 + 2,
    # The checkouts are told to begin, and get an answer to all that they ask; the lots inventory takes by itself.
    "commands": 11 + 14 + 2 + 2 + 11,
    "verified": True,
}


def demo(*arguments: str, limit: str = "") -> subprocess.CompletedProcess[str]:
    """`limit`: of open files, as ulimit takes it."""
    command = [sys.executable, "-m", "pipeline", "demo", *arguments]
    if limit:
        command = ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "invoices.csv"
    path.write_text(",".join(COLUMNS) + "\n" + LINES)
    return path


def test_the_demo_from_nothing_to_verified_figures_with_few_open_files(tmp_path: Path, source: Path) -> None:
    home, result = tmp_path / "home", tmp_path / "result.json"
    arguments = ("--input", str(source), "--json", str(result), "--home", str(home), "--keep")
    done = demo(*arguments, limit="-n 256")  # which a Mac allows
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        assert "verified: every figure equals the recomputation from the file\n" in done.stdout
        assert "2 checkouts settled by saga: 2 confirmed, 0 refused, 0 compensated; " in done.stdout
        written = json.loads(result.read_text())
        seconds, rate = written.pop("seconds"), written.pop("commands_per_second")
        assert written == EXPECTED
        assert rate == pytest.approx(EXPECTED["commands"] / seconds, rel=0.01)
        asked = [sys.executable, "-m", "pipeline", "query", "inventory", "TEA", "--home", str(home), "--json"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True)
        assert json.loads(answer.stdout)["row"]["on_hand"] == 1
    finally:
        stopped = demo("--stop", "--home", str(home))
    assert stopped.stdout.strip() == "stopped"
    assert local.find(home / "broker") is None


def test_the_whole_demo_as_it_is_shipped_within_the_usual_limit_of_open_files(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    done = demo("--json", str(result), "--home", str(tmp_path / "home"), limit="-n 1024")
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(result.read_text())
    assert (written["verified"], written["in_flight"]) == (True, 0)
    assert written["orders"]["placed"] > 1_000
    assert "one partition" not in done.stdout


def test_the_demo_on_another_kafka_wants_it_empty(shop: Shop, source: Path, tmp_path: Path) -> None:
    arguments = ("--input", str(source), "--bootstrap", shop.bootstrap, "--home", str(shop.home / "demo"))
    first = demo(*arguments, "--processes", "2")
    assert first.returncode == 0, first.stdout + first.stderr
    second = demo(*arguments)
    assert second.returncode == 2
    assert "hold records already" in second.stderr
    assert "--fresh" in second.stderr
    result = tmp_path / "result.json"
    third = demo(*arguments, "--fresh", "--feed-first", "--checkout", "2pc", "--json", str(result))
    assert third.returncode == 0, third.stdout + third.stderr
    written = json.loads(result.read_text())
    expected = EXPECTED | {"commands": EXPECTED["commands"] + 3}  # these lots are acknowledged
    assert {name: written[name] for name in expected} == expected


def some(folder: Path) -> Path:
    """The first of the real invoices."""
    path = folder / "some.csv"
    with gzip.open(SHIPPED, "rt") as shipped:
        path.write_text("".join(islice(shipped, 4_000)))
    return path


@pytest.mark.parametrize("way", ["saga", "2pc"])
def test_scarce_stock_and_credit_refuse_orders_and_every_figure_is_right(shop: Shop, tmp_path: Path, way: str) -> None:
    source, result = some(tmp_path), tmp_path / "result.json"
    scarce = ("--stock-ratio", "0.7", "--credit-limit", "400")
    arguments = ("--input", str(source), "--bootstrap", shop.bootstrap, "--home", str(shop.home / "demo"))
    done = demo(*arguments, "--checkout", way, *scarce, "--json", str(result))
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(result.read_text())
    orders, reasons = written["orders"], written["refused_by_reason"]
    assert orders["placed"] == sum(bool(d.lines) and not d.is_return for d in read_invoices(source).documents.values())
    assert orders["placed"] == orders["confirmed"] + orders["refused"]
    assert reasons.keys() == {"out_of_stock", "over_limit"}
    assert sum(reasons.values()) == orders["refused"]
    assert orders["confirmed"] > 0
    assert (written["in_flight"], written["verified"]) == (0, True)
    assert min(written["stock"].values()) >= 0
    assert "recomputation from the file, less what was refused" in done.stdout
    assert f"{orders['refused']:,} compensated" in done.stdout


def test_figures_are_right_though_the_worker_is_killed_half_way(shop: Shop, tmp_path: Path) -> None:
    invoices = read_invoices(some(tmp_path))
    shop.send(stocking(invoices), trading(invoices))
    events = [TP("inventory.event", n) for n in range(4)]
    worker = shop.worker()
    with shop.watcher() as watcher:
        for share in (3_000, 6_000, 8_000):
            until(f"{share} events", lambda share=share: sum(end_offsets(shop.admin, events).values()) > share)
            worker.kill()
            assert not watcher.look()[1], "killed too late: everything was folded already"
            worker = shop.worker()
    shop.settle()
    expected = figures.from_file(invoices)
    with shop.query() as client:
        registered = len(expected["customer_countries"])
        until("replicas follow", lambda: len(list(client.scan("customer_countries"))) == registered)
        assert figures.differences(figures.from_tables(client), expected) == []
    assert worker.stop() == 0

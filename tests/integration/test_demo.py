"""`pipeline demo` as a person runs it, however it ends, and the December slice with its worker killed half way."""

import fcntl
import gzip
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.kafka import end_offsets
from pipeline.broker import local
from pipeline.demo import figures
from pipeline.demo.commands import stocking, trading
from pipeline.demo.invoices import COLUMNS, read_invoices
from pipeline.demo.run import SHIPPED
from pipeline.engine.ports import TP
from tests.helpers.support import Shop, until

LINES = """\
1,tea,[bold]TEA[/x],2,2009-12-01 07:45:00,1.5,17850,France
1,POT,POT,1,2009-12-01 07:45:00,10,17850,France
1,TEA,TEA,3,2009-12-01 07:45:00,1.5,17850,France
2,TEA,TEA,1,2009-12-02 09:00:00,1.25,,[/Spain]
[A1],TEA,TEA,1,2009-12-02 09:00:00,1.25,,Spain
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
        {"line": 6, "reason": "invoice number '[A1]' is neither digits nor C and digits"},
        {"line": 9, "reason": "quantity is 0"},
    ],
    "revenue": {"France": {"2009-12-01": 17500}, "[/Spain]": {"2009-12-02": 1250}},
    "refunds": {"United Kingdom": {"2009-12-03": 1500}},
    "units_sold": {"TEA": 6, "POT": 1},
    "stock": {"TEA": 1, "POT": 0},
    "customers": {
        "17850": {"orders": 1, "spent": 17500, "refunded": 1500},
        "guest-[/Spain]": {"orders": 1, "spent": 1250, "refunded": 0},
    },
    # 2 products registered and stocked, 2 customers, 1 move, 2 orders, 1 return, 1 adjustment: 11. The checkouts hold
    # and settle each of 2 orders, 2 charges and 3 lots of stock (order 1 has two products): 14. 1 lot is put back, and
    # refunded.
    "events": 11 + 14 + 2,
    # The checkouts are told to begin, and get an answer to all that they ask; the lots inventory takes by itself.
    "commands": 11 + 14 + 2 + 2 + 11,
    "verified": True,
}


PIPELINE = [
    sys.executable,
    "-P",
    "-m",
    "pipeline",
]  # as the command `pipeline`: nothing of the folder that one works in


def command(*arguments: str, limit: str = "") -> list[str]:
    """`limit`: of open files, as ulimit takes it."""
    words = [*PIPELINE, *arguments]
    return ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", *words] if limit else words


def demo(*arguments: str, limit: str = "", cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    words, environment = command("demo", *arguments, limit=limit), {**os.environ, **env}
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=900)


def next_of(shown: str) -> list[str]:
    """The commands that a demo's last lines name."""
    lines = shown.splitlines()
    return [line[4:] for line in lines[lines.index("Type next:") :] if line.startswith("    ") and line[4] != " "]


def typed(line: str, folder: Path) -> str:
    """What a command answers that is typed as it was printed."""
    done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, line + done.stdout + done.stderr
    return done.stdout


def started(home: Path) -> dict[int, str]:
    """Numbers and commands of the processes that a demo in this folder has started and that have not ended."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(home) in words and (" kafka.Kafka " in words or " worker " in words):
                found[int(place.name)] = words
    return found


def works(home: Path) -> bool:
    return any(" worker " in words for words in started(home).values())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "invoices.csv"
    path.write_text(",".join(COLUMNS) + "\n" + LINES)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with somebody's own topology, and modules called as the engine's package and others that it uses."""
    folder = tmp_path / "project"
    (folder / "topologies").mkdir(parents=True)
    (folder / "topologies" / "mine.py").write_text("from pipeline import Service\nservice = Service('mine')\n")
    for file in ("topologies/__init__.py", "pipeline.py", "json.py", "orders.py"):
        (folder / file).touch()
    return folder


def test_the_demo_from_nothing_to_verified_figures_with_few_open_files(
    project: Path, tmp_path: Path, source: Path
) -> None:
    home, result = tmp_path / "home", tmp_path / "result.json"
    arguments = ("--input", str(source), "--home", str(home), "--keep")
    with (tmp_path / "out").open("w+") as out:
        words = command("demo", *arguments, "--json", str(result), limit="-n 256")  # which a Mac allows
        first = subprocess.Popen(words, cwd=project, stdout=out, stderr=out)
        try:
            until("the first demo works", lambda: works(home) or first.poll() is not None)
            second, stop = demo(*arguments), demo("--stop", "--home", str(home))
            assert first.wait(300) == 0, (tmp_path / "out").read_text()
            for refused in (second, stop):
                assert refused.returncode == 2
                assert f"error: another demo, process {first.pid}, uses {home}" in refused.stderr
            shown = (tmp_path / "out").read_text()
            assert "verified: every figure equals the recomputation from the file\n" in shown
            assert "2 checkouts settled by saga: 2 confirmed, 0 refused, 0 compensated; " in shown
            written = json.loads(result.read_text())
            seconds, rate = written.pop("seconds"), written.pop("commands_per_second")
            assert written == EXPECTED
            assert rate == pytest.approx(EXPECTED["commands"] / seconds, rel=0.01)
            # What comes next is told for a folder in which `topologies` is another one.
            query, send, explain, stop_it = next_of(shown)
            assert re.search(r"on_hand +1\n", typed(query, project))
            assert "StockReceived" in typed(send, project)
            assert re.search(r"on_hand +13\n", typed(query, project))
            assert "REFUSED by inventory: out_of_stock" in typed(explain, project)
            assert stop_it.endswith(f" demo --stop --home {home}")
            (home / "thesis.txt").write_text("years of work")
            third = demo(*arguments)
            assert third.returncode == 2
            assert "contains what no demo has made, 'thesis.txt'" in third.stderr  # and not what the kept one has made
            assert local.find(home / "broker") is not None
        finally:
            first.kill()
            stopped = demo("--stop", "--home", str(home))
    assert stopped.stdout.strip() == "stopped"
    assert not started(home)
    assert (home / "thesis.txt").exists()


def ended(home: Path, source: Path, how: Callable[[subprocess.Popen[Any]], object], when: Callable[[Path], Any]) -> Any:
    """Starts a demo on a terminal, ends it once it is so far, and waits until nothing of it runs. Its exit code."""
    terminal, its = pty.openpty()
    words = command("demo", "--input", str(source), "--home", str(home), "--keep")
    process = subprocess.Popen(words, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    try:
        until("the demo is so far", lambda: when(home) or process.poll() is not None)
        assert process.poll() is None, os.read(terminal, 100_000).decode()
        how(process)
        code = process.wait(120)
        until("nothing is left of it", lambda: not started(home))
        return code
    finally:
        os.close(terminal)
        process.kill()


@pytest.mark.long
def test_whatever_ends_the_demo_no_process_stays_and_the_next_start_works(tmp_path: Path, source: Path) -> None:
    home = tmp_path / "home"
    for number, code, when in (
        (signal.SIGINT, 130, started),  # its broker starts
        (signal.SIGTERM, 143, works),
        (signal.SIGHUP, 129, works),
        (signal.SIGKILL, -9, works),
    ):
        assert ended(home, source, lambda process, number=number: process.send_signal(number), when) == code
    # Nobody reads any more what it prints.
    words = command("demo", "--input", str(source), "--home", str(home), "--keep")
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("invoices.csv: ")
        process.stdout.close()
        assert process.wait(300) == 1
    kept = demo("--stop", "--home", str(home))
    assert kept.stdout.strip() == "nothing was running"
    assert not started(home)


@pytest.mark.long
def test_a_log_that_an_error_names_is_there_afterwards(kafka: str, tmp_path: Path, source: Path) -> None:
    home = tmp_path / "demo"
    arguments = ("--input", str(source), "--bootstrap", kafka, "--fresh", "--home", str(home))
    done = demo(*arguments, PIPELINE_SECRET_FILE="nowhere")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert f"(log: {home / 'worker.log'})" in line
    assert "cannot read the secret nowhere" in (home / "worker.log").read_text()
    assert f"kept: {home / 'worker.log'}" in done.stdout
    again = demo(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert not home.exists()
    explain, keep, new = next_of(again.stdout)
    assert "REFUSED by inventory" in typed(explain, tmp_path)
    *_, end = next_of(typed(keep, tmp_path))
    assert typed(end, tmp_path) == "stopped\n"
    typed(new, tmp_path)
    assert (tmp_path / "my-shop" / "pyproject.toml").is_file()


@pytest.mark.long
def test_the_whole_demo_as_it_is_shipped_within_the_usual_limit_of_open_files(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    done = demo("--json", str(result), "--home", str(tmp_path / "home"), limit="-n 1024")
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(result.read_text())
    assert (written["verified"], written["in_flight"]) == (True, 0)
    assert written["orders"]["placed"] > 1_000
    assert "one partition" not in done.stdout


@pytest.mark.long
def test_the_demo_on_another_kafka_wants_it_empty(shop: Shop, source: Path, tmp_path: Path) -> None:
    arguments = ("--input", str(source), "--bootstrap", shop.bootstrap, "--home", str(shop.home / "demo"))
    code, page = on_a_terminal(40, *arguments, "--processes", "2")
    assert code == 0, page
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", page)  # bold and dim, but no colour
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", page).splitlines()]
    assert "A worker starts 7 services:" in " ".join(lines)
    assert [
        line for line in lines[: lines.index("Type next:")] if line.startswith(("│", "┃", "1/6")) and len(line) > 40
    ] == []
    second = demo(*arguments)
    assert second.returncode == 2
    assert "have records already" in second.stderr
    assert "--fresh" in second.stderr
    result = tmp_path / "result.json"
    third = demo(*arguments, "--fresh", "--feed-first", "--checkout", "2pc", "--json", str(result))
    assert third.returncode == 0, third.stdout + third.stderr
    written = json.loads(result.read_text())
    expected = EXPECTED | {"commands": EXPECTED["commands"] + 3}  # these lots are acknowledged
    assert {name: written[name] for name in expected} == expected


def on_a_terminal(columns: int, *arguments: str) -> tuple[int, str]:
    """Exit code and page of a demo on a terminal of so many columns, for one who wants no colours."""
    terminal, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"}
    env.pop("COLUMNS", None)
    page = b""
    with subprocess.Popen(command("demo", *arguments), stdin=its, stdout=its, stderr=its, env=env) as process:
        os.close(its)
        with suppress(OSError):  # that is how the end of a terminal is told
            while part := os.read(terminal, 10_000):
                page += part
        code = process.wait(300)
    os.close(terminal)
    return code, page.decode()


def some(folder: Path) -> Path:
    """The first of the real invoices."""
    path = folder / "some.csv"
    with gzip.open(SHIPPED, "rt") as shipped:
        path.write_text("".join(islice(shipped, 4_000)))
    return path


@pytest.mark.parametrize("way", ["saga", "2pc"])
def test_scarce_stock_and_credit_refuse_orders_and_every_figure_is_right(shop: Shop, tmp_path: Path, way: str) -> None:
    source = some(tmp_path)
    scarce = ("--stock-ratio", "0.7", "--credit-limit", "400")
    arguments = ("--input", str(source), "--bootstrap", shop.bootstrap, "--home", str(shop.home / "demo"))
    done = demo(*arguments, "--checkout", way, *scarce, "--json", "--explain")
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(done.stdout)  # one object, and all else is elsewhere
    confirmed, refused = written.pop("explained")
    assert {"orders", f"checkout_{way}", "inventory", "payments", "reports"} == set(confirmed["services"])
    assert [step["rejected"]["reason"] for step in refused["steps"] if step["rejected"]] == ["out_of_stock"]
    assert [c for c in done.stderr if unicodedata.category(c) == "Cc" and c != "\n"] == []
    assert max(map(len, done.stderr[: done.stderr.index("Type next:")].splitlines())) <= 80
    orders, reasons = written["orders"], written["refused_by_reason"]
    assert orders["placed"] == sum(bool(d.lines) and not d.is_return for d in read_invoices(source).documents.values())
    assert orders["placed"] == orders["confirmed"] + orders["refused"]
    assert reasons.keys() == {"out_of_stock", "over_limit"}
    assert sum(reasons.values()) == orders["refused"]
    assert orders["confirmed"] > 0
    assert (written["in_flight"], written["verified"]) == (0, True)
    assert min(written["stock"].values()) >= 0
    said = " ".join(done.stderr.split())
    assert "recomputation from the file, less what was refused" in said
    assert f"{orders['refused']:,} compensated" in said


@pytest.mark.long
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

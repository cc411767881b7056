"""The drill: a service at work is backed up, its broker and homes are destroyed, and it goes on in an empty cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.kafka import admin_client
from pipeline.broker import local
from pipeline.client import Client
from pipeline.client.queries import QueryClient
from pipeline.errors import ForeignToken
from pipeline.topology import load
from pipeline.verify import verify
from tests.helpers.support import Shop, Worker, until
from topologies.users import ChangeName, RegisterUser

pytestmark = pytest.mark.long
NAME = "topologies.users"


def pipeline(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def call(*arguments: str, code: int = 0) -> Any:
    process = pipeline(*arguments, "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    return json.loads(out) if not code else err


def run_once(*arguments: str) -> int:
    process = pipeline(*arguments)
    process.communicate(timeout=300)
    return process.returncode


def killed(half_done: Callable[[], object], *arguments: str) -> None:
    """Start a command, and kill it as soon as it has done something."""
    process = pipeline(*arguments)
    until("it has done something", lambda: half_done() or process.poll() is not None, 200.0)
    process.kill()
    process.communicate()
    assert process.returncode == -9, "it was over before"


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    """End what a test has started, also where it fails."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Start a broker of its own at each call; the one before is destroyed."""
    started: list[Path] = []

    def end() -> None:
        if started:
            admin_client.cache_clear()
            local.down(started[-1])

    def start() -> str:
        end()
        started.append(tmp_path / f"broker{len(started)}")
        return local.up(started[-1], times=local.SHORT_TIMES).bootstrap

    yield start
    end()


def test_a_service_that_is_gone_is_brought_back(brokers: Callable[[], str], ends: ExitStack, tmp_path: Path) -> None:
    place, homes, topology = tmp_path / "backup", count(), load(NAME)

    def home() -> Path:
        made = tmp_path / f"home{next(homes)}"
        made.mkdir()
        if (secret := tmp_path / "home0" / "secret").exists():  # in no backup: an operator keeps it
            shutil.copy(secret, made)
        return made

    def worker_of(bootstrap: str, place: Path) -> Worker:
        made = Worker(place, NAME, "--bootstrap", bootstrap)
        ends.callback(made.end)
        return made

    first, first_home = brokers(), home()
    shop = Shop(first, first_home, topology)
    ends.callback(shop.close)
    backup = "backup", "logs", NAME, "--to", str(place), "--bootstrap", first
    shop.worker()
    with Client(first, topology) as client:
        before = client.send("users", "anna", RegisterUser("Anna", "France"), wait=60, command_id="drill-1")

    # While commands flow: a backup that is killed, one that goes on, one of what has come since.
    stop = threading.Event()

    def business() -> None:
        with Client(first, topology) as client:
            for n in count():
                client.send("users", f"u{n % 100}", RegisterUser("U", "Spain") if n < 100 else ChangeName(f"U{n}"))
                if stop.wait(0.03):
                    return

    sender = threading.Thread(target=business)
    sender.start()
    try:
        killed(lambda: len(list(place.glob("logs/**/*.avro"))) > 2, *backup)
        one = call(*backup)
        assert one["taken_over"] > 2
        assert one["held_s"] > 0
        of_tables = "backup", "tables", "--to", str(place), "--home", str(first_home), "--name", "one"
        assert until("tables are on disk", lambda: run_once(*of_tables) != 2, 120) is True
        tables = call(*of_tables)
        two = call(*backup)
        assert 0 < two["records"] < two["in_all"]
        assert two["point"] == 2
        with Client(first, topology) as client:
            client.send("users", "berta", RegisterUser("Berta", "Spain"), wait=60)
    finally:
        stop.set()
        sender.join()
    shop.close()

    # Tables for a new worker of the same cluster: it reads what has come since, no more.
    new = home()
    again = call("restore", "tables", "--from", str(place), "--home", str(new), "--bootstrap", first)
    assert again["tables"] == tables["tables"]
    assert [each["service"] for each in again["tables"]] == ["users"]
    worker = worker_of(first, new)
    shop.settle()
    assert verify(first, topology, patience_s=60).clean
    assert worker.stop() == 0
    assert "wiped" not in worker.log.read_text()

    # All is gone. What it was comes back, also if the restore is killed in the midst.
    second = brokers()
    restore = "restore", "logs", "--from", str(place), "--bootstrap", second
    elsewhere = "restore", "tables", "--from", str(place), "--home", str(home()), "--bootstrap", second
    assert "of no use here" in call(*elsewhere, code=2)
    killed(lambda: "users.state" in admin_client(second).list_topics(timeout=10).topics, *restore)
    assert worker_of(second, home()).process.wait(120) == 2
    done = call(*restore)
    assert done["records"] == two["in_all"]
    assert "was restored from point 2 already" in call(*restore, code=2)
    assert "of no use here" in call(*elsewhere, code=2)
    assert verify(second, topology, tables=False).clean
    worker = worker_of(second, home())
    with Client(second, topology) as client:
        # Known, with the reply that it had. What came after the cut is gone, and can be done.
        after = client.send("users", "anna", RegisterUser("Anna", "France"), wait=60, command_id="drill-1")
        assert (after.version, after.events) == (before.version, before.events)
        berta = client.send("users", "berta", RegisterUser("Berta", "Spain"), wait=60)
    with QueryClient(second, topology, 60.0) as query:
        with pytest.raises(ForeignToken, match="not of this cluster since it was restored from a backup"):
            query.get("users", "anna", at_least=before.position)
        assert "France" in str(query.get("users", "anna", at_least=after.position))
        assert "Spain" in str(query.get("users", "berta", at_least=berta.position))
    report = verify(second, topology, patience_s=60)
    assert report.clean, report.findings
    assert worker.stop() == 0

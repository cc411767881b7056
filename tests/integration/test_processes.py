"""Whatever ends a command leaves no process that should not be there, and the next start works."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers.support import Shop, Worker, until

PIPELINE = [sys.executable, "-m", "pipeline"]


def processes_of(home: Path) -> dict[int, str]:
    """The processes that name this directory in their command line."""
    shown = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,stat=,command="], capture_output=True, text=True, check=True)
    found = {}
    for line in shown.stdout.splitlines():
        pid, state, command = line.split(None, 2)
        if str(home) in command and not state.startswith("Z"):
            found[int(pid)] = command
    return found


def runs(home: Path, what: str) -> Callable[[], bool]:
    return lambda: any(f" {what} " in command and "/bin/sh" not in command for command in processes_of(home).values())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A directory of its own, with no process left in the end."""
    yield tmp_path
    for pid in processes_of(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def broker_up(home: Path) -> subprocess.Popen[str]:
    command = [*PIPELINE, "broker", "up", "--home", str(home)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


@pytest.mark.parametrize(
    ("during", "numbers"),
    [("kafka.tools.StorageTool", [signal.SIGKILL]), ("kafka.Kafka", [signal.SIGINT, signal.SIGINT])],
)
def test_a_first_broker_up_that_is_interrupted(home: Path, during: str, numbers: list[signal.Signals]) -> None:
    first = broker_up(home)
    until(f"{during} runs", runs(home, during))
    for number in numbers:
        os.killpg(first.pid, number)
    said = first.communicate(timeout=60)[0]
    if numbers[0] != signal.SIGKILL:
        assert (first.returncode, said) == (128 + numbers[0], f"ended by {numbers[0].name}\n")
    until("nothing runs", lambda: not processes_of(home), 30)
    second = broker_up(home)
    assert "listens on" in second.communicate(timeout=120)[0]
    subprocess.run([*PIPELINE, "broker", "down", "--home", str(home)], check=True)
    assert not processes_of(home)


def test_a_broker_that_could_not_be_told_of_does_not_stay(home: Path) -> None:
    command = broker_up(home)
    assert command.stdout is not None
    command.stdout.close()
    assert command.wait(120) != 0
    assert (home / "broker" / "broker.json").exists()  # it had been started
    until("nothing runs", lambda: not processes_of(home), 30)


def test_two_broker_up_at_once_in_a_directory_that_was_half_formatted_once(home: Path) -> None:
    (home / "broker" / "data").mkdir(parents=True)
    (home / "broker" / "data" / "bootstrap.checkpoint").write_bytes(b"")
    both = [broker_up(home) for _ in range(2)]
    said = [command.communicate(timeout=150)[0].splitlines() for command in both]
    assert [command.returncode for command in both] == [0, 0]
    pid = json.loads((home / "broker" / "broker.json").read_text())["pid"]
    assert all(lines[-1].endswith(f"(process {pid})") and len(lines) <= 2 for lines in said)
    assert list(processes_of(home)) == [pid]
    subprocess.run([*PIPELINE, "broker", "down", "--home", str(home)], check=True)


# --- workers ----------------------------------------------------------------------------------------------------------


def started(shop: Shop, count: int, *arguments: str) -> Worker:
    worker = shop.worker("--service", "users", *arguments)
    until("all serve", lambda: len(worker.addresses()) == count)
    return worker


def logged_well(worker: Worker) -> None:
    log = worker.log.read_text()
    assert "Traceback" not in log
    assert "\x1b" not in log
    assert "\x08" not in log


def test_worker_processes_end_with_their_supervisor(shop: Shop) -> None:
    for number in (signal.SIGHUP, signal.SIGKILL):
        worker = started(shop, 2, "--processes", "2")
        assert len(processes_of(shop.home)) == 3
        os.kill(worker.process.pid, number)
        assert worker.process.wait(60) == (0 if number == signal.SIGHUP else -number)
        until("no worker runs", lambda: not processes_of(shop.home), 60)
        logged_well(worker)


def test_a_worker_whose_terminal_is_closed_stops_cleanly(shop: Shop) -> None:
    command = [*PIPELINE, "worker", "topologies", "--service", "users", "--bootstrap", shop.bootstrap]
    command += ["--home", str(shop.home)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert worker.stdout is not None
    try:
        until("it serves", lambda: "serving" in worker.stdout.readline())  # type: ignore[union-attr]
        until("it has partitions", lambda: "assigned" in worker.stdout.readline())  # type: ignore[union-attr]
        worker.stdout.close()  # what it writes from here on meets a broken pipe
        worker.send_signal(signal.SIGHUP)
        assert worker.wait(60) == 0
    finally:
        worker.kill()
        worker.wait()


def test_of_two_workers_at_once_on_one_port_one_is_refused_in_a_line(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    both = [shop.worker("--service", "users", "--port", str(port)) for _ in range(2)]
    refused = until("one has ended", lambda: next((w for w in both if w.process.poll() is not None), None))
    other = both[1 - both.index(refused)]
    assert refused.process.returncode == 2
    (line,) = [line for line in refused.log.read_text().splitlines() if "error" in line.lower()]
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{port}: Address already in use")
    until("the other serves", other.addresses)
    assert other.stop() == 0
    logged_well(other)

"""Child processes end with their parent, whatever ends it; signals become one orderly clean-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.process import Children, Ended, orderly_end
from tests.helpers.support import until

SLEEP = "import time; time.sleep(300)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
)
PARENT = """
import os, signal, sys, time
from pipeline.process import Children
children = Children(grace_s=0.5)
{before}
child = children.start([sys.executable, "-c", {code!r}], stdout={stdout})
print(child.pid, flush=True)
{after}
time.sleep(300)
"""


def is_there(pid: int) -> bool:
    """Whether it runs; one that has ended and is not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.strip().startswith("Z") and bool(state.strip())


def descendants(pid: int) -> set[int]:
    shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(line.split()[0]): int(line.split()[1]) for line in shown.splitlines()}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


class Parents:
    """Starts parents with a child each, and ends all in the end."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []
        self.seen: set[int] = set()

    def start(self, code: str = SLEEP, before: str = "", after: str = "", stdout: str = "None") -> tuple[Any, int]:
        script = PARENT.format(code=code, before=before, after=after, stdout=stdout)
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        self.started.append(parent)
        assert parent.stdout is not None
        child = int(parent.stdout.readline() or 0)
        self.seen |= descendants(parent.pid)
        return parent, child

    def end(self) -> None:
        for pid in self.seen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for parent in self.started:
            parent.kill()
            parent.communicate()


@pytest.fixture
def parents() -> Iterator[Parents]:
    made = Parents()
    yield made
    made.end()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_child_ends_with_its_parent(parents: Parents, number: signal.Signals) -> None:
    parent, child = parents.start()
    others = descendants(parent.pid)
    assert child in others
    os.kill(parent.pid, number)
    parent.wait()
    until("child and watchdog are gone", lambda: not any(map(is_there, others)), 20)


def test_also_one_that_takes_no_notice(parents: Parents) -> None:
    parent, child = parents.start(STUBBORN)
    assert parent.stdout.readline() == "up\n"
    parent.kill()
    until("it has been killed", lambda: not is_there(child), 20)


def test_also_where_the_parent_is_killed_in_the_middle_of_the_start(parents: Parents) -> None:
    before = "children.watch = lambda pid: (print(pid, flush=True), os.kill(os.getpid(), signal.SIGKILL))"
    parent, child = parents.start(before=before)
    parent.wait()
    until("it is gone", lambda: not is_there(child), 20)


def test_also_where_the_watchdog_was_killed_before(parents: Parents) -> None:
    again = "os.kill(children._watchdog.pid, signal.SIGKILL); children._watchdog.wait()\n"
    again += "other = children.start(['sleep', '300']); print(other.pid, flush=True)"
    parent, child = parents.start(after=again)
    other = int(parent.stdout.readline())
    parent.kill()
    until("both are gone", lambda: not is_there(child) and not is_there(other), 20)


def test_one_that_is_released_stays(parents: Parents) -> None:
    parent, child = parents.start(after="children.release(child.pid); children.close(); os._exit(0)")
    parent.wait()
    assert is_there(child)


def test_the_end_of_the_block_ends_them_and_waits_and_holds_locks_until_then(tmp_path: Path) -> None:
    reading, writing = os.pipe()  # stands for a lock: it ends with the last that holds it
    with Children(grace_s=0.2, holding=[writing]) as children:
        child = children.start([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        os.close(writing)
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
    assert child.returncode == -signal.SIGKILL
    assert os.read(reading, 1) == b""
    os.close(reading)


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_becomes_one_clean_up_that_others_do_not_interrupt(number: signal.Signals) -> None:
    done = []
    before = signal.getsignal(number)
    with pytest.raises(Ended) as ended, orderly_end():  # noqa: PT012
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGINT)
            try:
                signal.raise_signal(signal.SIGTERM)
                raise OSError
            except OSError:
                signal.raise_signal(number)
            done.append("cleaned up")
    assert (ended.value.number, ended.value.exit_code, done) == (number, 128 + number, ["cleaned up"])
    assert signal.getsignal(number) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_was_swallowed_is_not_the_last() -> None:
    class Closes:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Ended), orderly_end():  # noqa: PT012
        Closes()
        signal.raise_signal(signal.SIGINT)


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly_end():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


SUPERVISOR = """
import sys
from types import SimpleNamespace
from pipeline.worker import processes
processes.BACKOFF_S = (300.0,)
processes.sys = SimpleNamespace(executable={program!r}, argv=[])
sys.exit(processes.run_processes(2))
"""


def test_a_supervisor_that_waits_to_start_a_worker_again_ends_at_once(tmp_path: Path) -> None:
    program = tmp_path / "worker"
    program.write_text(f"#!/bin/sh\necho x >> {tmp_path}/starts\nexit 1\n")
    program.chmod(0o755)
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR.format(program=str(program))])
    try:
        started = tmp_path / "starts"
        until("both have died once", lambda: started.exists() and started.read_text() == "x\nx\n")
        supervisor.terminate()
        assert supervisor.wait(30) == 0
    finally:
        supervisor.kill()
        supervisor.wait()

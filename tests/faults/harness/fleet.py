"""Worker processes that faults are done to, and their supervisor: those that die are started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.helpers.support import until

RESTART_S = 0.5  # between the death of a worker and the next start, as a supervisor would wait
STOP_S = 10.0  # a worker that is asked to end has so long


class Process:
    """One worker process with its plan of faults."""

    def __init__(
        self,
        home: Path,
        bootstrap: str,
        number: int,
        plan: str,
        environment: dict[str, str],
        arguments: Sequence[str],
        topology: str,
    ) -> None:
        self.number, self.plan = number, plan
        self.log, self._fired = home / f"worker-{number}.log", home / f"fired-{number}.txt"
        command = [sys.executable, "-m", "tests.faults.harness.worker", plan, str(self._fired), "worker", topology]
        command += ["--bootstrap", bootstrap, "--home", str(home), "--node", "fault", *arguments]
        with self.log.open("w") as out:
            self.popen = subprocess.Popen(
                command, stdout=out, stderr=out, start_new_session=True, env=os.environ | environment
            )
        self.expected_to_die = "=kill" in plan
        self.died_s = 0.0  # when its death was noticed

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    @property
    def address(self) -> str | None:
        """Where it serves; None until it does."""
        found = re.findall(r"serving .* at (http://\S+)", self.log.read_text())
        return found[-1] if found else None

    def fired(self) -> list[tuple[float, str]]:
        """The faults that have happened in it, and when."""
        lines = self._fired.read_text().splitlines() if self._fired.exists() else []
        return [(float(at), firing) for at, _, firing in (line.partition(" ") for line in lines)]

    def status(self) -> dict[str, dict[str, Any]] | None:
        """What it says of itself; None where it does not answer."""
        if not self.alive or self.address is None:
            return None
        try:
            answer: dict[str, dict[str, Any]] = httpx.get(f"{self.address}/v1/status", timeout=2).json()
        except (httpx.HTTPError, ValueError):
            return None
        return answer

    def runs(self) -> bool:
        """Whether it holds partitions of every service and has restored them."""
        status = self.status()
        return bool(status) and all(each["assigned"] and not each["restoring"] for each in status.values())

    def is_stopped(self) -> bool:
        """Whether SIGSTOP has hold of it."""
        try:
            return Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False

    def kill(self) -> None:
        self.expected_to_die = True
        self.popen.kill()
        self.popen.wait()

    def pause(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)
        until("the worker is stopped", self.is_stopped)

    def resume(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def stop(self, patience_s: float = STOP_S) -> float:
        """SIGTERM; returns how long it took to end. Fails where it does not end in time with code 0."""
        self.expected_to_die = True
        started = time.monotonic()
        self.popen.terminate()
        try:
            code = self.popen.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"worker {self.number} did not end within {patience_s:.0f} s: {self.last()}") from None
        assert code == 0, f"worker {self.number} ended with code {code}: {self.last()}"
        return time.monotonic() - started

    def processor_s(self) -> float:
        """What it has used so far of processors."""
        return processor_s(self.popen.pid)

    def tell_where(self) -> None:
        """Its log gets the stacks of its threads."""
        if self.alive:
            self.popen.send_signal(signal.SIGUSR1)

    def last(self) -> str:
        """The last thing it said: its error, or the last line."""
        text = self.log.read_text().strip()
        at = text.rfind("\nerror: ")
        return " ".join((text[at:] if at >= 0 else text.rpartition("\n")[2]).split()) or "(nothing)"


def processor_s(pid: int) -> float:
    """What a process has used so far of processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ran_and_waited_s(pid: int) -> tuple[float, float]:
    """Return for how long the threads of a process have run so far, and for how long they wanted to and could not."""
    ran = waited = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it has ended
            fields = (thread / "schedstat").read_text().split()
            ran, waited = ran + int(fields[0]), waited + int(fields[1])
    return ran / 1e9, waited / 1e9


class Fleet:
    """The workers of a topology. `keep` is called wherever a test waits, and starts again what has died.

    `arguments`: more of what each worker is told.
    """

    def __init__(self, home: Path, bootstrap: str, arguments: Sequence[str] = (), topology: str = "topologies") -> None:
        self.home, self.bootstrap, self.arguments, self.topology = home, bootstrap, arguments, topology
        self.workers: list[Process] = []
        self.deaths: list[str] = []  # those that nobody ordered
        self.environment: dict[str, str] = {}
        self.replacement = ""  # the plan of workers that take the place of dead ones
        self.released: list[Process] = []
        self._made = 0

    def start(self, plan: str = "") -> Process:
        """One worker more."""
        self._made += 1
        more = self.environment, self.arguments, self.topology
        worker = Process(self.home, self.bootstrap, self._made, plan, *more)
        self.workers.append(worker)
        return worker

    def keep(self) -> None:
        """Replaces each worker that has died."""
        for worker in list(self.workers):
            if worker.alive:
                continue
            if not worker.died_s:
                worker.died_s = time.monotonic()
                if not worker.expected_to_die:
                    self.deaths.append(f"worker {worker.number} code {worker.popen.returncode}: {worker.last()}")
            if time.monotonic() - worker.died_s >= RESTART_S:
                self.release(worker)
                self.start(self.replacement)

    def release(self, worker: Process) -> None:
        """The worker is not to be replaced when it dies."""
        self.workers.remove(worker)
        self.released.append(worker)

    def lines(self) -> list[str]:
        """All that its workers have logged, those that have ended, too."""
        logs = sorted(self.home.glob("worker-*.log"))
        return [f"{log.stem}: {line}" for log in logs for line in log.read_text(errors="replace").splitlines()]

    def until(self, what: str, check: Callable[[], Any], patience_s: float = 90.0) -> Any:
        """Waits with the supervisor at work."""

        def look() -> Any:
            self.keep()
            return check()

        try:
            return until(what, look, patience_s)
        except AssertionError:
            for worker in self.workers:
                worker.tell_where()
            raise

    def until_all_run(self) -> None:
        """Until each holds its share and has restored it."""
        self.until("all workers run", lambda: all(worker.runs() for worker in self.workers))

    def stop(self) -> list[float]:
        """SIGTERM to all; returns how long each took. Each must end well."""
        for worker in self.workers:
            worker.expected_to_die = True
            worker.popen.terminate()
        took = [worker.stop() for worker in self.workers]
        self.workers.clear()
        return took

    def close(self) -> None:
        """Ends whatever is left, without ceremony."""
        for worker in self.workers + self.released:
            worker.kill()
        self.workers.clear()
        self.released.clear()

"""What makes a machine slow for its workers, and lets it go again: processors, disks. Linux alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.faults.harness.fleet import Process, processor_s

BOUND_S = 300.0  # whatever happens to who has started them, what keeps a machine busy ends by itself
PERIOD_S = 0.1
WRITTEN_MB = 16  # by each loop, into one file again and again
CONTROL_GROUPS = Path("/sys/fs/cgroup")
HOG = f"import time\nend = time.monotonic() + {BOUND_S}\nwhile time.monotonic() < end: sum(range(10_000))"
WRITER = f"""end=$(($(date +%s) + {BOUND_S:.0f})); while [ $(date +%s) -lt $end ]; do
dd if=/dev/zero of="$0" bs=64k count={WRITTEN_MB * 16} conv=fsync 2>/dev/null && echo; done"""


@contextmanager
def _together(commands: Iterable[list[str]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes, each in a session of its own: as workers and brokers are, so that all count the same with Linux."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True))
        yield running
    finally:
        for each in running:
            with suppress(ProcessLookupError):
                os.killpg(each.pid, signal.SIGKILL)
            each.communicate()


@contextmanager
def hogs(count: int) -> Iterator[Callable[[], float]]:
    """Processes that are never idle; gives what tells how much of processors they have used so far."""
    with _together([[sys.executable, "-c", HOG]] * count) as running:
        yield lambda: sum(processor_s(each.pid) for each in running)


@contextmanager
def busy_disk(folder: Path, loops: int) -> Iterator[None]:
    """The disk of `folder` is written to and made to keep it, without a pause."""
    files = [folder / f"busy-{n}" for n in range(loops)]
    try:
        with _together(["sh", "-c", WRITER, str(file)] for file in files) as running:
            yield
            for each in running:
                os.set_blocking(each.stdout.fileno(), False)  # type: ignore[union-attr]
                assert each.stdout.read(), "the disk was not written to"  # type: ignore[union-attr]
    finally:
        for file in files:
            file.unlink(missing_ok=True)


@contextmanager
def part_of_a_core(worker: Process, part: float) -> Iterator[str]:
    """Leaves a worker that much of one core; gives how.

    By a control group of Linux, of the first version or the second, where one may be made; else the worker is stopped
    for all but that part of each 100 ms.
    """
    with ExitStack() as limited:
        for way in (_in_group_v1, _in_group_v2, _stopped_mostly):
            with suppress(OSError):
                how = limited.enter_context(way(worker, part))
                break
        yield how


@contextmanager
def _in_group_v1(worker: Process, part: float) -> Iterator[str]:
    with _group(worker, CONTROL_GROUPS / "cpu", "cpu", "cpu.cfs_quota_us", f"{round(part * 100_000)}"):
        yield "by a control group (cpu.cfs_quota_us)"


@contextmanager
def _in_group_v2(worker: Process, part: float) -> Iterator[str]:
    with suppress(OSError):
        (CONTROL_GROUPS / "cgroup.subtree_control").write_text("+cpu")
    with _group(worker, CONTROL_GROUPS, "", "cpu.max", f"{round(part * 100_000)} 100000"):
        yield "by a control group (cpu.max)"


@contextmanager
def _group(worker: Process, root: Path, controller: str, file: str, limit: str) -> Iterator[None]:
    """A group of the worker's own; it is back in its old one afterwards. OSError where that is not permitted."""
    pid = worker.popen.pid
    lines = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    before = next((place for _, names, place in lines if controller in names.split(",")), None)
    if before is None or not (root / "cgroup.procs").exists():
        raise FileNotFoundError(f"no control groups at {root}")
    made = root / f"faults-{os.getpid()}-{pid}"
    made.mkdir()
    try:
        (made / file).write_text(limit)
        (made / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with suppress(OSError):  # one that has ended is in no group
            (root / before.lstrip("/") / "cgroup.procs").write_text(str(pid))
        made.rmdir()


@contextmanager
def _stopped_mostly(worker: Process, part: float) -> Iterator[str]:
    """SIGCONT for its part of each period, SIGSTOP for the rest."""
    over = threading.Event()

    def run() -> None:
        while True:
            worker.resume()
            if over.wait(part * PERIOD_S):
                return
            worker.popen.send_signal(signal.SIGSTOP)
            if over.wait((1 - part) * PERIOD_S):
                return

    thread = threading.Thread(target=run, name="stopped-mostly", daemon=True)
    thread.start()
    try:
        yield "by SIGSTOP for the rest of each 100 ms"
    finally:
        over.set()
        thread.join()
        worker.resume()

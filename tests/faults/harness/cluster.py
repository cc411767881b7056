"""Brokers that faults may be done to: one or three combined KRaft nodes, each also reachable through a proxy."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from pathlib import Path

from confluent_kafka import KafkaException

from pipeline.adapters.kafka import admin_client
from pipeline.broker import local
from pipeline.process import Children
from tests.faults.harness.proxy import Proxy
from tests.helpers.support import until

HEAP = ("-Xms256m", "-Xmx384m")
# A dead or stopped node is given up after 4 s, and a transaction without an owner soon after its time-out: a run has to
# have time for many faults.
PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxy}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=4000
replica.lag.time.max.ms=4000
min.insync.replicas={in_sync}
default.replication.factor={copies}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=8
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=8
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Node:
    """One broker, which is a controller too."""

    def __init__(self, directory: Path, number: int, port: int, java: list[str], children: Children) -> None:
        self._children = children
        self.directory, self.number, self.port, self._java = directory, number, port, java
        self.config = directory / "server.properties"
        self.proxy = Proxy()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = local.start(self._java, self.config, self._children)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def wait(self) -> None:
        assert self.process is not None
        local.wait_until_listening(self.process, self.port, self.directory)


class Cluster:
    """The nodes of one cluster, all below one directory. With three, all is kept three times, and two must have it."""

    def __init__(self, home: Path, nodes: int = 1) -> None:
        self.replication = nodes
        java = local.java_command(print, HEAP)
        self._children = Children()
        ports, behind, controllers = free_ports(nodes), free_ports(nodes), free_ports(nodes)
        self.nodes = [Node(home / str(n), n, ports[n - 1], java, self._children) for n in range(1, nodes + 1)]
        voters = ",".join(f"{n}@127.0.0.1:{controllers[n - 1]}" for n in range(1, nodes + 1))
        for node in self.nodes:
            node.directory.mkdir(parents=True)
            node.proxy.target = behind[node.number - 1]
            node.config.write_text(
                PROPERTIES.format(
                    node=node.number,
                    voters=voters,
                    port=node.port,
                    behind=behind[node.number - 1],
                    proxy=node.proxy.port,
                    controller=controllers[node.number - 1],
                    data=node.directory / "data",
                    copies=nodes,
                    in_sync=max(1, nodes - 1),
                )
            )
            local.format_storage(java, node.config, self._children)
        self.bootstrap = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self.proxied = ",".join(f"127.0.0.1:{node.proxy.port}" for node in self.nodes)
        try:
            for node in self.nodes:
                node.start()
            for node in self.nodes:
                node.wait()
            self.wait_until_whole()
        except BaseException:
            self.close()
            raise

    def wait_until_whole(self) -> None:
        """Until all nodes are in, and every partition there is has all its copies in sync."""
        until("all brokers are in and in sync", self._is_whole)

    def _is_whole(self) -> bool:
        try:
            seen = admin_client(self.bootstrap).list_topics(timeout=2)
        except KafkaException:
            return False
        partitions = [p for topic in seen.topics.values() for p in topic.partitions.values()]
        in_sync = all(p.leader >= 0 and len(p.isrs) == len(p.replicas) for p in partitions)
        return in_sync and len(seen.brokers) == len(self.nodes)

    def close(self) -> None:
        """Ends it without ceremony: nobody needs the data again."""
        for node in self.nodes:
            if node.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    node.kill()
            node.proxy.close()
        self._children.close()

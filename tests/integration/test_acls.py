"""The printed ACLs on a broker that asks who comes: services run with them, and others are refused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from pipeline.broker import local
from pipeline.process import Children
from tests.helpers.support import until

USERS = ("admin", "users", "orders", "web")
SECURED = """
listeners=SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
username="admin" password="admin" {passwords};
"""


class Secured(NamedTuple):
    """A broker whose users have their names as passwords."""

    bootstrap: str
    home: Path

    def settings(self, user: str) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": user,
        }

    def pipeline(self, user: str, *arguments: str) -> list[str]:
        """A command line for `user`."""
        file = self.home / f"{user}.properties"
        lines = (f"{name}={value}\n" for name, value in self.settings(user).items() if name != "bootstrap.servers")
        file.write_text("".join(lines))
        common = ["--bootstrap", self.bootstrap, "--home", str(self.home / user)]
        return [sys.executable, "-m", "pipeline", "--client-config", str(file), *arguments, *common]

    def run(self, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = self.pipeline(user, *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    home = tmp_path_factory.mktemp("secured")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    port, controller = (each.getsockname()[1] for each in sockets)
    for each in sockets:
        each.close()
    plain = local.PROPERTIES.format(port=port, controller=controller, data=home / "data").splitlines()
    kept = [line for line in plain if not line.startswith(("listeners=", "advertised.listeners="))]
    passwords = " ".join(f'user_{user}="{user}"' for user in USERS)
    config = home / "server.properties"
    config.write_text("\n".join(kept) + SECURED.format(port=port, controller=controller, passwords=passwords))
    java = local.java_command(print)
    with Children() as children:
        local.format_storage(java, config, children)
        process = local.start(java, config, children)
        local.wait_until_listening(process, port, home)
        made = Secured(f"127.0.0.1:{port}", home)
        for arguments in (["create"], ["acls", "--apply", "--requester", "cli=User:web"]):
            done = made.run("admin", "topics", arguments[0], "topologies", *arguments[1:])
            assert done.returncode == 0, done.stderr
        yield made


@pytest.fixture
def workers(secured: Secured) -> Iterator[dict[str, Path]]:
    """A worker of `users` and one of `orders`, each as its own principal; their logs."""
    running, logs = [], {}
    try:
        for service in ("users", "orders"):
            logs[service] = secured.home / f"{service}.log"
            with logs[service].open("w") as out:
                command = secured.pipeline(service, "worker", "topologies", "--service", service)
                running.append(subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ}))
        yield logs
    finally:
        for process in running:
            process.terminate()
        for process in running:
            assert process.wait(30) == 0


def test_services_run_with_their_acls(secured: Secured, workers: dict[str, Path]) -> None:
    registered = secured.run("web", "send", "users", "anna", "RegisterUser", '{"name": "Anna", "country": "France"}')
    assert registered.returncode == 0, registered.stderr + workers["users"].read_text()[-2000:]
    order = '{"customer": "anna", "country": "", "at": "2009-12-01T10:00:00", '
    order += '"lines": [{"code": "TEA", "quantity": 1, "price": 5}]}'

    def placed() -> bool:
        number = f"order-{len(tries)}"
        tries.append(secured.run("web", "send", "orders", number, "PlaceOrder", order))
        return tries[-1].returncode == 0

    tries: list[subprocess.CompletedProcess[str]] = []
    until("an order is placed where the copy says", placed, 60)
    for log in workers.values():
        assert "AUTHORIZATION" not in log.read_text().upper(), log.read_text()[-2000:]


def reading(secured: Secured, user: str, topic: str) -> KafkaError | None:
    """Why `user` may not read that; None where it may."""
    consumer = Consumer({**secured.settings(user), "group.id": f"{user}-test", "enable.partition.eof": True})
    try:
        told: KafkaError | None = consumer.list_topics(topic, timeout=10).topics[topic].error
        if told is not None:
            return told  # it may not even know of it; what it reads would say so half a minute later
        consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(4)])
        for _ in range(100):
            message = consumer.poll(0.2)
            if message is not None:
                error = message.error()
                return None if error is None or error.code() == KafkaError._PARTITION_EOF else error
    finally:
        consumer.close()
    raise AssertionError("no answer")


def writing(secured: Secured, user: str, topic: str, transactional_id: str = "") -> KafkaError | None:
    """Why `user` may not write that; None where it may."""
    config = secured.settings(user)
    try:
        if transactional_id:
            producer = Producer({**config, "transactional.id": transactional_id})
            producer.init_transactions(10)
            return None
        told: list[KafkaError | None] = []
        producer = Producer({**config, "message.timeout.ms": 8000})
        producer.produce(topic, b"x", b"k", on_delivery=lambda error, _: told.append(error))
        producer.flush(10)
    except KafkaException as raised:
        error: KafkaError = raised.args[0]
        return error
    return told[0]


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        ("orders", "users.command"),
        ("orders", "users.replies"),
        ("orders", "users.users.command.queue"),
        ("orders", "user_emails.event"),
        ("users", "orders.event"),
        ("web", "users.event"),
    ],
)
def test_another_principal_does_not_read_what_is_private_or_not_followed(
    secured: Secured, user: str, topic: str
) -> None:
    error = reading(secured, user, topic)
    assert error is not None
    assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_a_service_reads_what_it_follows_and_its_own(secured: Secured) -> None:
    assert reading(secured, "orders", "users.event") is None
    assert reading(secured, "users", "users.replies") is None


def test_nobody_writes_what_is_anothers(secured: Secured) -> None:
    refused = [("orders", "users.event"), ("orders", "users.command"), ("web", "orders.event")]
    codes = [error and error.code() for error in (writing(secured, user, topic) for user, topic in refused)]
    assert codes == [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 3
    error = writing(secured, "orders", "", "users-machine-0")
    assert error is not None
    assert error.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert writing(secured, "orders", "", "orders-machine-9") is None

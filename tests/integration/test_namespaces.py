"""Three workers that share nothing but the broker: each in a network of its own, called where `--advertise` says."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from pipeline import Accepted, Client, QueryClient
from pipeline.broker import local
from pipeline.errors import Unauthorized
from pipeline.process import Children
from pipeline.server.access.tokens import add, revoke
from pipeline.topology import load
from tests.helpers.support import until
from topologies.users import RegisterUser, users

pytestmark = pytest.mark.long

PORT, KEYS = 6066, 60
LISTENERS = """
listeners=PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{address}:{port}
"""


def ip(*words: str) -> None:
    """Run `ip`. Raises CalledProcessError, with what it says as output."""
    subprocess.run(["ip", *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class Network:
    """A bridge on this machine, and namespaces whose one link goes there; `net`: the third byte of their addresses."""

    def __init__(self) -> None:
        self.net = os.getpid() % 200 + 20
        self.bridge, self.names = f"kpb{self.net}", [f"kp{self.net}n{n}" for n in range(3)]
        self.here = f"10.87.{self.net}.1"

    def host(self, n: int) -> str:
        """The address of a namespace. The last one is called by IPv6."""
        return f"10.87.{self.net}.{10 + n}" if n < 2 else f"[fd87:{self.net}::{10 + n}]"

    def make(self) -> None:
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"{self.here}/24", "dev", self.bridge)
        ip("addr", "add", f"fd87:{self.net}::1/64", "dev", self.bridge, "nodad")
        ip("link", "set", self.bridge, "up")
        for n, name in enumerate(self.names):
            ip("netns", "add", name)
            ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
            ip("link", "set", f"{name}a", "master", self.bridge, "up")
            inside = ("-n", name)
            ip(*inside, "addr", "add", f"10.87.{self.net}.{10 + n}/24", "dev", f"{name}b")
            ip(*inside, "addr", "add", f"fd87:{self.net}::{10 + n}/64", "dev", f"{name}b", "nodad")
            ip(*inside, "link", "set", f"{name}b", "up")
            ip(*inside, "link", "set", "lo", "up")

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)  # its link goes with it
        subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True, check=False)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need the command ip (Debian: apt-get install iproute2)")
    made = Network()
    try:
        try:
            made.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {' '.join(error.cmd)}: {error.output.strip()}")
        yield made
    finally:
        made.remove()


class Three(NamedTuple):
    """The workers of `users`, their addresses, and who may call them."""

    bootstrap: str
    urls: list[str]
    logs: list[Path]
    tokens: Path
    token: str

    def get(self, n: int, path: str, token: str = "", **query: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"{self.urls[n]}{path}", headers=headers, params=query, timeout=30)

    def is_ready(self, n: int) -> bool:
        try:
            return self.get(n, "/readyz").status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="module")
def three(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    home = tmp_path_factory.mktemp("apart")
    sockets = [socket.create_server(("0.0.0.0", 0)) for _ in range(2)]
    port, controller = (each.getsockname()[1] for each in sockets)
    for each in sockets:
        each.close()
    plain = local.PROPERTIES.format(port=port, controller=controller, data=home / "data").splitlines()
    kept = [line for line in plain if not line.startswith(("listeners=", "advertised.listeners="))]
    config, bootstrap = home / "server.properties", f"{network.here}:{port}"
    told = LISTENERS.format(port=port, controller=controller, address=network.here)
    config.write_text("\n".join(kept) + told + local.SHORT_TIMES)
    tokens = home / "tokens"
    token, java = add(tokens, "test"), local.java_command(print)
    pipeline = [sys.executable, "-m", "pipeline"]
    with Children() as children:
        local.format_storage(java, config, children)
        broker = local.start(java, config, children)
        local.wait_until_listening(broker, port, home)
        create = [*pipeline, "topics", "create", "topologies", "--partitions", "6", "--bootstrap", bootstrap]
        subprocess.run(create, check=True, capture_output=True)
        logs = [home / f"worker-{n}.log" for n in range(3)]
        workers = []
        for n, name in enumerate(network.names):
            command = ["ip", "netns", "exec", name, *pipeline, "worker", "topologies", "--service", "users"]
            command += ["--bootstrap", bootstrap, "--home", str(home / name), "--node", name, "--port", str(PORT)]
            command += ["--host", "0.0.0.0" if n < 2 else "::", "--advertise", network.host(n)]
            with logs[n].open("w") as out:
                command += ["--token-file", str(tokens)]
                workers.append(children.start(command, stdout=out, stderr=out))
        made = Three(bootstrap, [f"http://{network.host(n)}:{PORT}" for n in range(3)], logs, tokens, token)
        until("all are ready", lambda: all(made.is_ready(n) for n in range(3)))
        yield made
        for worker in workers:
            worker.terminate()
        for worker in workers:
            assert worker.wait(60) == 0


def test_they_serve_as_one(three: Three) -> None:
    topology, keys = load("topologies"), [f"user-{n:02}" for n in range(KEYS)]
    for log in three.logs:
        assert log.read_text().count("ready: users at http://") == 1
    with Client(three.bootstrap, topology, token=three.token) as client:
        asked = [client.ask(users, key, RegisterUser(key, "France")) for key in keys]
        assert all(isinstance(each.result(60), Accepted) for each in asked)
    held = [three.get(n, "/v1/status", three.token).json()["users"]["positions"] for n in range(3)]
    assert all(held), "each has partitions"
    assert len({place for each in held for place in each}) == sum(map(len, held)), "and none has another's"
    for n in range(3):  # each forwards what the others have
        rows = three.get(n, "/v1/tables/users", three.token, limit=KEYS + 1).json()["rows"]
        assert [row["key"] for row in rows] == keys
        for key in keys[:12]:
            assert three.get(n, f"/v1/tables/users/{key}", three.token).json()["row"]["name"] == key
    answer = httpx.post(
        f"{three.urls[0]}/v1/commands/users/over-http",
        json={"type": "RegisterUser", "name": "Over HTTP", "country": "France"},
        headers={"Authorization": f"Bearer {three.token}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    with QueryClient(three.bootstrap, topology, 30.0, token=three.token) as client:
        assert client.get(users, "over-http", at_least=answer.json()["position"]).row.name == "Over HTTP"
        assert len(list(client.scan(users))) == KEYS + 1


def test_who_has_no_token_is_refused_and_one_can_be_changed_meanwhile(three: Three) -> None:
    for n in range(3):
        for token in ("", "kpt_of_somebody_else"):
            refused = three.get(n, "/v1/tables/users", token)
            assert (refused.status_code, refused.json()["error"]) == (401, "Unauthorized")
        assert three.get(n, "/livez").json()["live"]
    with (
        QueryClient(three.bootstrap, load("topologies"), 5.0, token="kpt_wrong") as client,
        pytest.raises(Unauthorized),
    ):
        client.get(users, "user-00")
    newer = add(three.tokens, "newer")
    until("all know the new one", lambda: all(three.get(n, "/v1/status", newer).status_code == 200 for n in range(3)))
    revoke(three.tokens, "newer")
    until("none knows it any more", lambda: all(three.get(n, "/v1/status", newer).status_code == 401 for n in range(3)))
    for log in three.logs:
        assert newer not in log.read_text()
        assert three.token not in log.read_text()

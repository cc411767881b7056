"""Sending commands to real workers on real Kafka: replies, repetitions, conflicts, time-outs; over HTTP and by hand."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method

from pipeline.client import Accepted, AsyncClient, Client
from pipeline.contrib.own_writes.clients import own_commands, own_queries
from pipeline.contrib.own_writes.logs import Logs
from pipeline.contrib.own_writes.positions import OwnWrites
from pipeline.contrib.own_writes.request import OwnRequest
from pipeline.errors import NoReply
from pipeline.model import Rejected
from pipeline.topology import Topology
from pipeline.verify import verify
from tests.helpers.support import Shop, Worker, until
from topologies.inventory import ReceiveStock, RegisterProduct
from topologies.reports import customers
from topologies.users import ChangeName, NameChanged, RegisterUser, UserRegistered, users

ANNA = RegisterUser("Anna", "France")
WAIT_S = 60.0
SERVICES = ("--service", "users", "--service", "inventory")


@pytest.fixture
def worker(shop: Shop) -> Worker:
    made = shop.worker(*SERVICES, "--slot", "0")
    until("it serves", made.addresses)
    return made


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    with Client(shop.bootstrap, shop.topology, "tests") as made:
        yield made


def count(shop: Shop, topic: str) -> int:
    return len(shop.records(topic))


def test_an_outcome_is_told_and_told_again_after_a_kill(shop: Shop, client: Client, worker: Worker) -> None:
    first = client.send("users", "anna", ANNA, command_id="c1", wait=WAIT_S)
    assert isinstance(first, Accepted)
    assert (first.version, first.events) == (1, (UserRegistered("Anna", "France"),))
    rejected = client.send("users", "anna", ANNA, command_id="c2", wait=WAIT_S)
    assert rejected == Rejected("already_registered")

    # Commands come in while the worker is killed, each of them twice.
    names = [f"name {n}" for n in range(40)]
    pending = []
    for number, name in enumerate(names):
        for _ in range(2):
            pending.append(client.ask("users", "anna", ChangeName(name), command_id=f"n{number}"))
        if number == 20:
            worker.kill()
    shop.worker(*SERVICES, "--slot", "0")
    outcomes = [each.result(WAIT_S) for each in pending]
    assert [outcome.version for outcome in outcomes if isinstance(outcome, Accepted)] == sorted(list(range(2, 42)) * 2)
    assert [outcome.events for outcome in outcomes[::2]] == [(NameChanged(name),) for name in names]
    assert client.send("users", "anna", ANNA, command_id="c1", wait=WAIT_S) == first
    assert client.send("users", "anna", ANNA, command_id="c2", wait=WAIT_S) == rejected
    assert client.outcome("users", "anna", "c1") == first
    assert client.outcome("users", "anna", "c2") == rejected
    assert client.outcome("users", "anna", "never sent") is None
    assert count(shop, "users.event") == 41
    report = verify(shop.bootstrap, shop.topology, ("users",))
    assert report.clean, report.findings
    assert report.checked["answered again"] == 42


def test_of_those_who_saw_the_same_version_one_wins(client: Client, worker: Worker) -> None:
    client.send("users", "anna", ANNA, wait=WAIT_S)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(
            pool.map(
                lambda n: client.send("users", "anna", ChangeName(f"{n}"), expected_version=1, wait=WAIT_S), range(8)
            )
        )
    won = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, Rejected)]
    assert [outcome.version for outcome in won] == [2]
    assert lost == [Rejected("version_conflict", {"expected": "1", "actual": "2"})] * 7


def test_what_is_not_answered_in_time_may_be_asked_for_later(shop: Shop, client: Client) -> None:
    client.listen()
    with pytest.raises(NoReply, match=r"it is stored at users\.command/\d@0 and will be decided") as caught:
        client.send("users", "anna", ANNA, wait=10.0)
    assert caught.value.stored is not None
    worker = shop.worker(*SERVICES)
    until("it serves", worker.addresses)
    outcome = until("it is decided", lambda: _told(client, caught.value.command_id))
    assert outcome.version == 1
    again = client.send("users", "anna", ANNA, command_id=caught.value.command_id, wait=WAIT_S)
    assert again == outcome


def _told(client: Client, command_id: str) -> Any:
    from pipeline.errors import TableUnavailable

    try:
        return client.outcome("users", "anna", command_id)
    except TableUnavailable:
        return None


def test_each_instance_reads_its_own_replies(shop: Shop, worker: Worker) -> None:
    with Client(shop.bootstrap, shop.topology, "tests") as one, Client(shop.bootstrap, shop.topology, "tests") as two:
        outcomes: dict[str, Any] = {}

        def ask(name: str, client: Client) -> None:
            outcomes[name] = [client.send("users", name, ChangeName(f"{n}"), wait=WAIT_S) for n in range(20)]

        threads = [threading.Thread(target=ask, args=pair) for pair in (("one", one), ("two", two))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outcomes["one"] == outcomes["two"] == [Rejected("unknown_user")] * 20
    assert len({record.key() for record in shop.records("users.command")}) == 2


def test_in_an_event_loop(shop: Shop, worker: Worker) -> None:
    async def scenario() -> list[Any]:
        async with AsyncClient(shop.bootstrap, shop.topology, "tests") as client:
            await client.send("users", "anna", ANNA, wait=WAIT_S)
            asked = [client.send("users", "anna", ChangeName(f"{n}"), wait=WAIT_S) for n in range(50)]
            versions = [outcome.version for outcome in await asyncio.gather(*asked) if isinstance(outcome, Accepted)]
            pending = await client.ask("users", "anna", ChangeName("asked"))
            outcome = await pending.result_async(WAIT_S)
            assert await client.outcome("users", "anna", pending.id) == outcome
            await client.store("users", "anna", ChangeName("stored"))
            last = await client.send("users", "anna", ChangeName("last"), wait=WAIT_S)
            return [*versions, *(each.version for each in (outcome, last) if isinstance(each, Accepted))]

    assert asyncio.run(scenario()) == [*range(2, 52), 52, 54]


def test_a_reply_topic_that_does_not_exist_harms_nobody(shop: Shop, client: Client, worker: Worker) -> None:
    ready = client.commands.write("users", "anna", ANNA, reply_to="gone.reply/0/me")
    client._steps._sending.queue(ready)
    assert client.send("users", "berta", ANNA, wait=WAIT_S)
    shop_status = until("both are folded", lambda: _status(worker)["commands"] >= 2 and _status(worker))
    assert shop_status["undeliverable_replies"] == 1


def _status(worker: Worker) -> dict[str, Any]:
    status: dict[str, Any] = httpx.get(f"{worker.addresses()[0]}/v1/status").json()["users"]
    return status


# --- HTTP -------------------------------------------------------------------------------------------------------------


def post(worker: Worker, path: str, body: Any, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{worker.addresses()[0]}/v1/commands/{path}", json=body, headers=names, timeout=WAIT_S)


def test_over_http(shop: Shop, worker: Worker) -> None:
    other = shop.worker("--service", "orders")
    until("it serves", other.addresses)
    body = {"type": "RegisterUser", "name": "Anna", "country": "France"}
    told = post(worker, "users/a%2Fb", body, Idempotency_Key="c1", Prefer="wait=30")
    assert told.status_code == 200, told.text
    assert told.json()["events"] == [body | {"type": "UserRegistered", "email": None}]
    assert told.headers["ETag"] == '"1"'
    assert post(other, "users/a%2Fb", body, Idempotency_Key="c1", Prefer="wait=30").json() == told.json()
    for each in (worker, other):
        assert httpx.get(f"{each.addresses()[0]}/v1/commands/users/a%2Fb/c1").json() == told.json()
    assert httpx.get(f"{worker.addresses()[0]}/v1/commands/users/a%2Fb/c2").status_code == 404

    conflict = post(worker, "users/a%2Fb", {"type": "ChangeName", "name": "B"}, If_Match='"7"')
    assert (conflict.status_code, conflict.json()["reason"]) == (409, "version_conflict")
    assert conflict.headers["Content-Type"].startswith("application/problem+json")
    assert post(worker, "users/a%2Fb", {"type": "ChangeName", "name": "B"}, If_Match='"1"').status_code == 200
    rejected = post(worker, "users/a%2Fb", body)
    assert (rejected.status_code, rejected.json()["reason"]) == (409, "already_registered")
    reused = post(worker, "users/a%2Fb", {"type": "ChangeName", "name": "C"}, Idempotency_Key="c1")
    assert (reused.status_code, reused.json()["reason"]) == (409, "id_reused")

    later = post(worker, "users/c", body, Prefer="respond-async")
    assert later.status_code == 202
    place = f"{worker.addresses()[0]}{later.headers['Location']}"
    until("it is decided", lambda: httpx.get(place).status_code == 200)


def test_over_http_nobody_decides_in_time(shop: Shop) -> None:
    worker = shop.worker("--service", "users")
    until("it serves", worker.addresses)
    body = {"type": "ReceiveStock", "quantity": 5}
    late = post(worker, "inventory/TEA", body, Prefer="wait=1", Idempotency_Key="c1")
    assert late.status_code == 202
    assert late.json()["position"].startswith("inventory.command/")
    nobody = httpx.get(f"{worker.addresses()[0]}{late.headers['Location']}")
    assert (nobody.status_code, nobody.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("nobody/anna", {"type": "RegisterUser"}, 404, "no aggregate 'nobody'"),
        ("users/anna", {"type": "Nix"}, 422, "takes no command 'Nix'"),
        ("users/anna", {"type": "ChangeName"}, 422, "ChangeName lacks the field 'name'"),
        ("users/anna", {"type": "ChangeName", "name": 1}, 422, "ChangeName.name must be str"),
        ("users/anna", [], 422, "the body must be an object"),
        ("users/" + "k" * 513, {"type": "ChangeName", "name": "x"}, 422, "the key has 513 bytes"),
        ("users/%ff", {"type": "ChangeName", "name": "x"}, 422, "the path is not UTF-8"),
        ("users/anna", {"type": "ChangeName", "name": "x" * 2_000_000}, 413, "1048576"),
        ("inventory/TEA", {"type": "ReceiveStock", "quantity": 2**63}, 422, "quantity must fit 64 bits"),
    ],
)
def test_bad_requests_are_explained(one_worker: Worker, path: str, body: Any, status: int, says: str) -> None:
    answer = post(one_worker, path, body)
    assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (status, "application/problem+json")
    assert says in answer.json()["detail"]


@pytest.fixture(scope="module")
def one_shop(kafka: str, tmp_path_factory: pytest.TempPathFactory, shop_topology: Topology) -> Iterator[Shop]:
    made = Shop(kafka, tmp_path_factory.mktemp("shop"), shop_topology)
    yield made
    made.close()


@pytest.fixture(scope="module")
def one_worker(one_shop: Shop) -> Worker:
    made = one_shop.worker()
    until("it serves", made.addresses)
    return made


def test_a_request_of_a_web_page_reads_its_own_writes(one_shop: Shop, one_worker: Worker) -> None:
    """In a thread, as views of Django; tests of examples/noticeboard do it in an event loop."""
    with Client(one_shop.bootstrap, one_shop.topology, "web") as client, one_shop.query() as query:
        for n in range(5):
            key, writing = f"page-{n}", OwnRequest(Logs(one_shop.bootstrap, one_shop.topology), OwnWrites(), f"key-{n}")
            sender = own_commands(client, writing)
            if n % 2:
                sender.send(users, key, ANNA)  # stored, not decided yet
            else:
                assert isinstance(sender.send(users, key, ANNA, wait=WAIT_S), Accepted)
            assert sender.outcome("users", key, f"key-{n}/2") is None
            another = OwnRequest(Logs(one_shop.bootstrap, one_shop.topology), OwnWrites([writing.writes.cookie or ""]))
            reader = own_queries(query, another)
            assert reader.get(customers, key, wait=WAIT_S).row.registered
            assert [row and row.row.registered for row in reader.get_many(customers, [key, "none"])] == [True, None]
            assert [row.key for row in reader.scan(customers, prefix=key)] == [key]
            assert next(reader.watch(customers, key)).row.registered
            assert another.writes.cookie is None


def test_the_server_is_what_its_document_says(one_shop: Shop, one_worker: Worker) -> None:
    address = one_worker.addresses()[0]
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json", wait_for_schema=30)
    until("it is ready", lambda: httpx.get(f"{address}/readyz", timeout=10).status_code == 200)
    assert httpx.get(f"{address}/livez", timeout=10).json()["live"]

    fuzz = settings(
        max_examples=4, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None
    )

    def call(case: schemathesis.Case) -> None:
        answer = case.call()
        # 504: a read that was to wait for less than that takes. A command that fits may be rejected by the aggregate;
        # how a wrong method is refused is the server's.
        assert answer.status_code < 500 or answer.status_code == 504, answer.text
        excluded = [not_a_server_error, positive_data_acceptance, unsupported_method]
        case.validate_response(answer, excluded_checks=excluded)

    # A watch has no end; test_watch has it. Whether the worker is ready just now is not the document's.
    for operation in schema.exclude(path_regex="/(watch|readyz)$").get_all_operations():
        fuzz(given(case=operation.ok().as_strategy())(call))()
    report = verify(one_shop.bootstrap, one_shop.topology)
    assert report.clean, report.findings
    parked = httpx.get(f"{one_worker.addresses()[0]}/v1/parked", timeout=30.0).json()["parked"]
    # Only what a checkout without an order, a customer or a product's code does.
    assert [each["cause"] for each in parked if "an empty key" not in each["cause"]] == []


# --- by hand ----------------------------------------------------------------------------------------------------------


def by_hand(shop: Shop, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", "send", *arguments, "--bootstrap", shop.bootstrap]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=90, check=False)


def test_by_hand(shop: Shop, worker: Worker) -> None:
    register = ("users", "anna", "RegisterUser", '{"name": "Anna", "country": "France"}')
    sent = by_hand(shop, *register, "--timeout", "60")
    assert sent.returncode == 0, sent.stderr
    assert "accepted: version 1" in sent.stdout
    assert '  UserRegistered {"name": "Anna", "country": "France", "email": null}' in sent.stdout
    again = by_hand(shop, *register, "--json")
    assert again.returncode == 1
    assert json.loads(again.stdout)["reason"] == "already_registered"
    wrong = by_hand(shop, "users", "anna", "ChangeName", '{"name": 5}')
    assert (wrong.returncode, wrong.stderr.strip()) == (2, "error: ChangeName.name must be str, not int 5")
    usage = by_hand(shop, "users", "anna")
    assert usage.returncode == 2
    assert "give AGGREGATE KEY TYPE [JSON], or --file" in usage.stderr


def test_a_file_by_hand(shop: Shop, client: Client, worker: Worker, tmp_path: Path) -> None:
    client.send("inventory", "TEA", RegisterProduct("tea"), wait=WAIT_S)
    client.send("inventory", "TEA", ReceiveStock(5), wait=WAIT_S)
    line = {"aggregate": "inventory", "key": "TEA", "type": "ReceiveStock", "fields": {"quantity": 1}}
    lines = [json.dumps({**line, "id": f"c{n % 1_500}"}) for n in range(3_000)]
    lines.append(json.dumps({**line, "fields": {"quantity": 0}}))
    file = tmp_path / "commands.jsonl"
    file.write_text("\n".join(lines))
    sent = by_hand(shop, "--file", str(file), "--wait", "--timeout", "60")
    assert sent.returncode == 1, sent.stderr
    assert "│ accepted" in sent.stdout
    assert "3,000" in sent.stdout
    assert "rejected: " in sent.stdout
    with shop.query() as query:
        assert query.get("inventory", "TEA")["row"]["on_hand"] == 5 + 1_500

    lines[7] = json.dumps({**line, "fields": {"quantity": "many"}})
    bad = by_hand(shop, "--file", "-", stdin="\n".join(lines))
    assert bad.returncode == 2
    assert "line 8: ReceiveStock.quantity must be int, not str 'many'; nothing was sent" in bad.stderr


# --- the page on commands ---------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()


def test_the_page_on_commands_runs(shop: Shop, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_BOOTSTRAP", shop.bootstrap)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found: dict[str, Any] = {}
    exec(compile(block, "commands.md", "exec"), found)
    assert found["outcome"].version == 1
    assert found["again"] == Rejected("already_registered")
    url = worker.addresses()[0]
    (curl,) = re.findall(r"^    (curl .*?)\n\n", PAGE, re.DOTALL | re.MULTILINE)
    told = subprocess.run(
        curl.replace("http://127.0.0.1:6066", url), shell=True, capture_output=True, text=True, check=True
    )
    assert "HTTP/1.1 200" in told.stdout, told.stdout
    assert json.loads(told.stdout.splitlines()[-1])["events"][0]["name"] == "Berta"
    lines = [
        line.strip() for line in PAGE.splitlines() if line.startswith("    pipeline send ") and "--file" not in line
    ]
    assert len(lines) == 2
    for line in lines:
        sent = by_hand(shop, *shlex.split(line)[2:])
        assert (sent.returncode, sent.stdout.startswith("accepted")) == (0, True), sent

"""Reads with a chosen consistency, of real workers on real Kafka."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline import AsyncQueryClient, QueryClient, Token
from pipeline.client import Accepted, Client
from pipeline.errors import ForeignToken, NoSuchConsistency, NotYet, UnknownKey
from pipeline.model import Rejected
from tests.helpers.linearizable import Operation, is_linearizable
from tests.helpers.support import Shop, until
from topologies import inventory as inv
from topologies import orders as o
from topologies import users as u

WAIT_S = 60.0


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    with Client(shop.bootstrap, shop.topology, "tests") as made:
        made.listen()
        yield made


@pytest.fixture
def query(shop: Shop) -> Iterator[QueryClient]:
    with shop.query(60.0) as made:
        yield made


def both(shop: Shop) -> list[str]:
    """Addresses of two workers: one has users and reports, the other orders and inventory."""
    workers = [
        shop.worker("--service", "users", "--service", "reports"),
        shop.worker("--service", "orders", "--service", "inventory"),
    ]
    until("both serve", lambda: all(worker.addresses() for worker in workers))
    return [worker.addresses()[0] for worker in workers]


def comes_back(customer: str, *codes: str) -> o.ReturnGoods:
    return o.ReturnGoods(customer, "France", "2009-12-01T10:00:00", tuple(o.Line(code, 1, 1000) for code in codes))


def test_what_a_command_has_caused_is_in_the_tables_of_others(shop: Shop, client: Client, query: QueryClient) -> None:
    addresses = both(shop)
    for n in range(30):
        sent = client.send("users", f"user-{n}", u.RegisterUser("Anna", "France"), wait=WAIT_S)
        assert isinstance(sent, Accepted)
        for table in ("users", "customers", "customer_countries"):
            row = query.get(table, f"user-{n}", at_least=sent.position)
            assert (row["row"].get("country", "France"), row["row"].get("registered", True)) == ("France", True)
    # Through a reaction of another service, and two hops further.
    client.send("inventory", "TEA", inv.RegisterProduct("tea"), wait=WAIT_S)
    client.send("inventory", "TEA", inv.ReceiveStock(100), wait=WAIT_S)
    for n in range(10):
        back = client.send("orders", f"C{n}", comes_back("user-1", "TEA", "TEA"), wait=WAIT_S)
        assert isinstance(back, Accepted)
        assert query.get("inventory", "TEA", at_least=back.position)["row"]["put_back"] == 2 * (n + 1)
        assert query.get("refunds", "France/2009-12-01", at_least=back.position)["row"]["returns"] == n + 1
        for address in addresses:  # whoever is asked
            answer = httpx.get(f"{address}/v1/tables/customers/user-1", params={"at_least": back.position})
            assert answer.json()["row"]["refunded"] == 2000 * (n + 1)
            assert Token(answer.headers["X-Pipeline-Position"]).positions

    # What was rejected, and what has come to nothing, is waited for as well.
    again, stored = client.store("users", "user-1", u.RegisterUser("Anna", "France"))
    until("it is decided", lambda: client.outcome("users", "user-1", again) is not None)
    assert client.outcome("users", "user-1", again) == Rejected("already_registered")
    assert query.get("customers", "user-1", at_least=stored)["row"]["registered"]
    nothing = client.send("users", "user-1", u.ChangeName("Anna"), wait=WAIT_S)
    assert isinstance(nothing, Accepted)
    assert nothing.events == ()
    assert query.get("customers", "user-1", at_least=nothing.position | back.position)["row"]["refunded"] == 20_000
    with pytest.raises(UnknownKey):
        query.get("customers", "nobody", at_least=nothing.position)


def test_each_level_on_any_worker(shop: Shop, client: Client, query: QueryClient) -> None:
    addresses = both(shop)
    for n in range(20):
        client.send("users", f"user-{n % 5}", u.RegisterUser(f"{n}", "France"), wait=WAIT_S)
        client.send("users", f"user-{n % 5}", u.ChangeName(f"{n}"), wait=WAIT_S)
        assert query.get("users", f"user-{n % 5}", consistency="linearizable")["row"]["name"] == f"{n}"
        assert query.get("customers", f"user-{n % 5}", consistency="fresh")["row"]["registered"]
        assert query.get("customer_countries", f"user-{n % 5}", consistency="fresh")["row"]["country"] == "France"

    async def many() -> list[Any]:
        async with AsyncQueryClient(shop.bootstrap, shop.topology, 60.0) as others:
            asked = [others.get("users", "user-1", consistency="linearizable") for _ in range(200)]
            return await asyncio.gather(*asked)

    before = barriers(addresses[0])
    assert {row["row"]["name"] for row in asyncio.run(many())} == {"16"}
    until("the barriers are folded", lambda: barriers(addresses[0]) > before)
    assert barriers(addresses[0]) - before < 200, "each read has written a barrier of its own"

    with pytest.raises(NoSuchConsistency, match="not an aggregate"):
        query.get("customers", "user-1", consistency="linearizable")
    with pytest.raises(NoSuchConsistency, match="has no source"):
        query.get("users", "user-1", consistency="fresh")
    with pytest.raises(ForeignToken, match=r"nothing flows from inventory\.command"):
        query.get("users", "user-1", at_least="inventory.command/0@1")
    with pytest.raises(ForeignToken, match="unknown topic"):
        query.get("users", "user-1", at_least="others.command/0@1")
    with pytest.raises(ForeignToken, match="unknown partition 99"):
        query.get("users", "user-1", at_least="users.command/99@1")
    for address in addresses:
        for path, parameters, status in (
            ("users/user-1", {"consistency": "best"}, 400),
            ("users/user-1", {"at_least": "2:later"}, 400),
            ("users/user-1", {"at_least": "users.command/0@1", "consistency": "eventual"}, 400),
            ("users/user-1", {"max_age": "1"}, 400),
            ("customers/user-1", {"consistency": "linearizable"}, 400),
            ("users/user-1", {"at_least": "inventory.command/0@1"}, 422),
            ("users/user-1", {"consistency": "eventual", "max_age": "5"}, 200),
        ):
            answer = httpx.get(f"{address}/v1/tables/{path}", params=parameters)
            assert answer.status_code == status, answer.text


def barriers(address: str) -> int:
    count: int = httpx.get(f"{address}/v1/status").json()["users"]["barriers"]
    return count


def test_who_is_too_late_is_told_at_which_hop(shop: Shop, client: Client, query: QueryClient) -> None:
    worker = shop.worker("--service", "users")
    shop.worker("--service", "orders")
    until("it serves", worker.addresses)
    sent = client.send("users", "anna", u.RegisterUser("Anna", "France"), wait=WAIT_S)
    assert isinstance(sent, Accepted)
    ((_, n), offset), *_ = sent.position.positions.items()
    far = Token.of({("users.command", n): offset + 1000})
    with pytest.raises(NotYet, match=r"users has folded users\.command/") as caught:
        query.get("users", "anna", at_least=far, wait=0.3)
    (hop,) = caught.value.behind
    assert (hop["service"], hop["topic"], hop["partition"], hop["wanted"]) == (
        "users",
        "users.command",
        n,
        offset + 1000,
    )
    answer = httpx.get(f"{worker.addresses()[0]}/v1/tables/users/anna", params={"at_least": far, "wait": "0.2"})
    assert (answer.status_code, answer.json()["error"]) == (504, "NotYet")
    assert answer.json()["behind"][0]["wanted"] == offset + 1000


def test_rows_by_keys_by_range_and_unchanged(shop: Shop, client: Client, query: QueryClient) -> None:
    addresses = both(shop)
    sent = [client.send("users", f"user-{n:02}", u.RegisterUser(f"{n}", "France"), wait=WAIT_S) for n in range(20)]
    token = Token()
    for each in sent:
        assert isinstance(each, Accepted)
        token |= each.position
    names = [row["key"] for row in query.scan("customers", at_least=token)]
    assert names == [f"user-{n:02}" for n in range(20)]
    keys = ["user-03", "nobody", "user-19", "user-03"]
    found = query.get_many("customers", keys, at_least=token)
    assert [row and row["key"] for row in found] == ["user-03", None, "user-19", "user-03"]
    assert [row["key"] for row in query.scan("users", start="user-05", to="user-08")] == [
        "user-05",
        "user-06",
        "user-07",
    ]

    for version, address in enumerate(addresses, 1):
        whole = httpx.get(f"{address}/v1/tables/users/user-03")
        assert (whole.headers["ETag"], whole.headers["X-Pipeline-Version"]) == (f'"{version}"', f"{version}")
        assert httpx.get(f"{address}/v1/aggregates/users/user-03").json() == whole.json()
        assert httpx.get(f"{address}/v1/aggregates/customers/user-03").status_code == 404
        for path in ("users/user-03", "customers/user-03", "users", "customer_countries/user-03"):
            tag = httpx.get(f"{address}/v1/tables/{path}").headers["ETag"]
            again = httpx.get(f"{address}/v1/tables/{path}", headers={"If-None-Match": tag})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        client.send("users", "user-03", u.ChangeName(f"at {address}"), wait=WAIT_S)
        changed = httpx.get(f"{address}/v1/tables/users/user-03", headers={"If-None-Match": whole.headers["ETag"]})
        assert changed.status_code == 200
        posted = httpx.post(f"{address}/v1/tables/users/get", json={"keys": ["user-01", "nobody"]})
        assert [row and row["key"] for row in posted.json()["rows"]] == ["user-01", None]
        assert httpx.post(f"{address}/v1/tables/users/get", json={"keys": 5}).status_code == 400
        assert httpx.post(f"{address}/v1/tables/users/put", json={"keys": []}).status_code == 405


# --- while things go wrong --------------------------------------------------------------------------------------------


@pytest.mark.long
def test_no_write_is_missed_while_workers_are_killed(shop: Shop, client: Client, query: QueryClient) -> None:
    arguments = [("--service", "users", "--service", "reports", "--slot", slot) for slot in "01"]
    workers = [shop.worker(*each) for each in arguments]
    others = shop.worker("--service", "orders", "--service", "inventory")
    until("all serve", lambda: all(worker.addresses() for worker in (*workers, others)))
    stop = threading.Event()
    asked = [0]
    failures: list[str] = []

    def write_then_read(customer: int) -> None:
        mine = 0
        while not stop.is_set():
            back = client.send("orders", f"C{customer}-{mine}", comes_back(f"user-{customer}", "TEA"), wait=WAIT_S)
            assert isinstance(back, Accepted)
            mine += 1000
            row = query.get("customers", f"user-{customer}", at_least=back.position, wait=30)["row"]
            asked[0] += 1
            if row["refunded"] != mine:
                failures.append(f"user-{customer} was refunded {row['refunded']}, and should have {mine}")

    def answered(wanted: int) -> bool:
        for each in running:
            if each.done():
                each.result()
        return asked[0] > wanted

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(write_then_read, n) for n in range(6)]
        try:
            for n in range(4):
                until("reads are answered", lambda wanted=asked[0] + 30: answered(wanted))
                workers[n % 2].kill()
                workers[n % 2] = shop.worker(*arguments[n % 2])
        finally:
            stop.set()
        for each in running:
            each.result()
    assert failures == []
    assert asked[0] > 120


def test_a_zombie_does_not_answer_linearizable_reads(shop: Shop, client: Client) -> None:
    first = shop.worker("--service", "users", "--node", "a")
    until("it serves", first.addresses)
    names = {f"user-{n}": f"{n}" for n in range(8)}
    for key, name in names.items():
        client.send("users", key, u.RegisterUser(name, "France"), wait=WAIT_S)
    old = first.addresses()[0]
    second = shop.worker("--service", "users", "--node", "b")
    until("both serve", second.addresses)
    held = {key: httpx.get(f"{old}/v1/tables/users/{key}", headers={"X-Pipeline-Forwarded": "1"}) for key in names}
    mine = [key for key, answer in held.items() if answer.status_code == 200]

    first.process.send_signal(signal.SIGSTOP)
    history: list[tuple[str, str]] = []
    try:
        for key in names:  # answered once the group has given its partitions to the other
            client.send("users", key, u.ChangeName("changed"), wait=WAIT_S)
        asked: list[tuple[str, str]] = [(level, key) for key in mine for level in ("owner", "linearizable")]

        def ask(pair: tuple[str, str]) -> None:
            level, key = pair
            answer = httpx.get(f"{old}/v1/tables/users/{key}", params={"consistency": level}, timeout=30.0)
            if answer.status_code == 200:
                history.append((level, answer.json()["row"]["name"]))

        with ThreadPoolExecutor(len(asked) or 1) as pool:
            answers = [pool.submit(ask, pair) for pair in asked]
            time.sleep(0.5)  # the questions are at the door when it wakes up
            first.process.send_signal(signal.SIGCONT)
            for each in answers:
                each.result()
    finally:
        first.process.send_signal(signal.SIGCONT)
    assert mine
    assert [name for level, name in history if level == "linearizable" and name != "changed"] == []


def test_linearizable_reads_over_two_workers_are_linearizable(shop: Shop, client: Client) -> None:
    workers = [shop.worker("--service", "users", "--node", node) for node in ("a", "b")]
    until("both serve", lambda: all(worker.addresses() for worker in workers))
    client.send("users", "anna", u.RegisterUser("0", "France"), wait=WAIT_S)
    history: list[Operation] = []
    stop = threading.Event()

    def write(writer: int) -> None:
        for n in range(40):
            name, began = f"{writer}-{n}", time.monotonic()
            client.send("users", "anna", u.ChangeName(name), wait=WAIT_S)
            history.append(Operation(began, time.monotonic(), name))

    def read(address: str) -> None:
        while not stop.is_set():
            began = time.monotonic()
            answer = httpx.get(f"{address}/v1/tables/users/anna", params={"consistency": "linearizable"}, timeout=30.0)
            if answer.status_code == 200:
                history.append(Operation(began, time.monotonic(), told=answer.json()["row"]["name"]))

    readers = [threading.Thread(target=read, args=(worker.addresses()[0],)) for worker in workers for _ in range(2)]
    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in (*readers, *writers):
        thread.start()
    until("half is written", lambda: len([each for each in history if each.write is not None]) > 60)
    workers[0].process.send_signal(signal.SIGSTOP)
    until("the other has taken over", lambda: all(not thread.is_alive() for thread in writers))
    workers[0].process.send_signal(signal.SIGCONT)
    asked = len(history)
    until("reads go on", lambda: len(history) > asked + 20)
    stop.set()
    for thread in readers:
        thread.join(WAIT_S)
    assert is_linearizable(history, "0", lambda _, name: name)


PAGE = (Path(__file__).parents[3] / "docs" / "consistency.md").read_text()


def test_the_page_on_consistency_runs(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_BOOTSTRAP", shop.bootstrap)
    worker = shop.worker()
    until("it serves", worker.addresses)
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "consistency.md", "exec"), found)
    assert found["mine"].row.registered
    assert (found["now"].row, found["now"].version) == (u.User("Hannah", "France"), 1)
    assert found["fresh"].row == o.CustomerCountry("France")
    assert found["again"].row == found["mine"].row
    assert found["present"].row == found["now"].row == found["copied"].row == found["recent"].row
    assert 0 <= found["recent"].age <= 5
    assert found["figures"].hits == 2
    assert (found["awaited"].row, found["past"]) == (found["now"].row, [u.UserRegistered("Hannah", "France")])
    assert (found["begin"].version, found["begin"].row) == (0, u.NOBODY)
    (curl,) = re.findall(r"^    curl '(.*?)'$", PAGE, re.MULTILINE)
    answer = httpx.get(curl.replace("http://127.0.0.1:6066", worker.addresses()[0]), timeout=30.0)
    assert answer.status_code == 200, answer.text
    (line,) = re.findall(r"^    pipeline (query .*)$", PAGE, re.MULTILINE)
    command = [sys.executable, "-m", "pipeline", *shlex.split(line), "--json", "--bootstrap", shop.bootstrap]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(told.stdout)["row"]["name"] == "Hannah"

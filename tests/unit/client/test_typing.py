"""Type checkers know what clients return, and refuse what cannot be sent or is not in a row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[3]
GIVEN = """
from collections.abc import Iterator
from typing import Any, assert_type

import topologies.users as module
from pipeline import Accepted, AsyncClient, AsyncQueryClient, Client, QueryClient, Rejected, Row, load_topology
from pipeline.client import Due, Instance, PastEvent
from topologies.checkout_saga import Checkout, checkout_saga
from topologies.inventory import ReceiveStock, inventory
from topologies.orders import CustomerCountry, customer_countries
from topologies.reports import Customer, customers
from topologies.users import ChangeName, Event, RegisterUser, User, users

client = Client("", load_topology("topologies"))
query = QueryClient("", load_topology("topologies"))


async def waiting(sends: AsyncClient, reads: AsyncQueryClient) -> None:
    {awaited}


def at_once() -> None:
    {called}
"""
ACCEPTED = [
    'assert_type(client.send(users, "anna", RegisterUser("Anna", "France"), wait=10), Accepted | Rejected)',
    'assert_type(client.send(users, "anna", ChangeName("Anne"), after=60.0), str)',
    'assert_type(client.send(module, "anna", ChangeName("Anne")), str)',
    'assert_type(client.send("users", "anna", ChangeName("Anne"), wait=1.5), Accepted | Rejected)',
    'client.ask(inventory, "a", ReceiveStock(5)).result(10)',
    'assert_type(query.get(customers, "anna"), Row[Customer])',
    'assert_type(query.get(customers, "anna").row.orders, int)',
    'assert_type(query.get(users, "anna", consistency="linearizable").row, User)',
    'assert_type(query.get(customer_countries, "anna").row, CustomerCountry)',
    'assert_type(query.get(module, "anna"), Row[Any])',
    'assert_type(query.get("customers", "anna"), dict[str, Any])',
    'assert_type(query.get_many(users, ["anna"]), list[Row[User] | None])',
    'assert_type(query.read_together([(users, "anna"), (users, "berta")]), list[Row[User] | None])',
    'query.read_together([(users, "anna"), (inventory, "a"), ("orders", "1")], wait=1)',
    'assert_type(query.scan(customers, prefix="a", index="country", value="France"), Iterator[Row[Customer]])',
    'assert_type(query.watch(customers, "anna"), Iterator[Row[Customer | None]])',
    'assert_type(query.history(users, "anna"), Iterator[PastEvent[Event]])',
    'assert_type(query.state_as_of(users, "anna", 3).row.name, str)',
    'assert_type([type(due.command) for due in query.deadlines(users, "anna")], Any)  # type: ignore[assert-type]',
    'assert_type(query.saga(checkout_saga, "1"), Instance[Checkout])',
]
ACCEPTED_AWAITED = [
    'assert_type(await sends.send(users, "anna", ChangeName("Anne"), wait=10), Accepted | Rejected)',
    'assert_type(await reads.get(customers, "anna"), Row[Customer])',
    "async for row in reads.scan(customers): assert_type(row.row, Customer)",
    'async for change in reads.watch(customers, "anna"): assert_type(change, Row[Customer | None])',
]
# What is refused, and a word of why.
REFUSED = {
    'client.send(users, "anna", ReceiveStock(5), wait=10)': "infer",
    'client.send(inventory, "anna", RegisterUser("Anna", "France"))': "infer",
    'client.ask(users, "anna", ReceiveStock(5))': "infer",
    'client.store(users, "anna", 5)': "infer",
    'client.send(customers, "anna", ChangeName("Anne"))': "overload",
    'client.send(users, "anna", ChangeName("Anne"), until=5)': "until",
    'query.get(customers, "anna").row.ordres': '"Customer" has no attribute "ordres"',
    'query.get(users, "anna").row.orders': '"User" has no attribute "orders"',
    'query.get(users, "anna", consistency=5)': "overload",
    'next(query.watch(customers, "anna")).row.orders': '"None"',
    'query.history(customers, "anna")': "overload",
    'query.saga(users, "anna")': "overload",
    'query.get(5, "anna")': "overload",
}
REFUSED_AWAITED = {
    'await sends.send(users, "anna", ReceiveStock(5), wait=10)': "infer",
    '(await reads.get(customers, "anna")).row.ordres': '"Customer" has no attribute "ordres"',
}


def test_a_type_checker_accepts_what_fits_and_refuses_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    called, awaited = [*ACCEPTED, *REFUSED], [*ACCEPTED_AWAITED, *REFUSED_AWAITED]
    file = tmp_path / "program.py"
    file.write_text(GIVEN.format(called="\n    ".join(called), awaited="\n    ".join(awaited)))
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    out, problem, _ = api.run([str(file), *options])
    assert not problem, problem
    lines = file.read_text().splitlines()
    found: dict[str, str] = {}
    for number, why in re.findall(r"program\.py:(\d+): error: (.*)$", out, re.MULTILINE):
        found.setdefault(lines[int(number) - 1].strip(), why)
    refused = REFUSED | REFUSED_AWAITED
    assert found.keys() == refused.keys(), out
    for line, word in refused.items():
        assert word in found[line], (line, found[line])

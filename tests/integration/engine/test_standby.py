"""Standbys: warm tables for the partitions of others, which answer with their age and are taken over."""

import httpx
import pytest

from pipeline.client.queries import QueryClient
from pipeline.demo.commands import stocking, trading
from pipeline.demo.invoices import Invoices
from pipeline.errors import TableUnavailable
from tests.helpers.support import Shop, Worker, until


def counts(worker: Worker, service: str) -> dict[str, int]:
    return httpx.get(f"{worker.addresses()[0]}/v1/status").json()[service]


def test_a_standby_answers_with_its_age_and_takes_over_warm(shop: Shop, invoices: Invoices) -> None:
    first = shop.worker("--standby", "--service", "inventory", "--node", "a")
    second = shop.worker("--standby", "--service", "inventory", "--node", "b")
    until("both serve", lambda: all(worker.addresses() for worker in (first, second)))
    others = shop.worker(*(f"--service={name}" for name in shop.topology.services if name != "inventory"))
    until("both have a share", lambda: all(counts(worker, "inventory")["assigned"] for worker in (first, second)))
    shop.send(stocking(invoices), trading(invoices))
    shop.settle()
    with QueryClient(shop.bootstrap, shop.topology, eventual=True) as client:
        rows = {row["key"]: row for row in client.scan("inventory")}
    assert len(rows) == 12
    table = f"{second.addresses()[0]}/v1/tables/inventory?consistency=eventual"
    until("the standbys are level", lambda: {row["key"] for row in httpx.get(table).json()["rows"]} == rows.keys())

    first.kill()
    # For the six seconds of its session the group still holds it for a member, and nobody owns its partitions.
    with QueryClient(shop.bootstrap, shop.topology, 0, eventual=True) as client:
        answers = [client.get("inventory", key) for key in rows]
    assert [answer["row"] for answer in answers] == [row["row"] for row in rows.values()]
    assert max(answer["age_s"] for answer in answers) > 0
    with QueryClient(shop.bootstrap, shop.topology, 0) as client:
        owners_only = client.scan("inventory")
        with pytest.raises(TableUnavailable):
            list(owners_only)

    before = counts(second, "inventory")["restored"]
    until("the other has all", lambda: counts(second, "inventory")["assigned"] == shop.partitions("inventory"))
    shop.settle()
    assert shop.wrong_figures(invoices) == []
    assert counts(second, "inventory")["restored"] == before, "what was warm was restored again"
    assert others.stop() == second.stop() == 0

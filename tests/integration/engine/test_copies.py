"""Decisions with a copy of another service's data, over real Kafka: while the owner is away, after a kill, for sure."""

from __future__ import annotations

from typing import Any

from pipeline import Rejected, Token
from pipeline.adapters.avro.codec import codecs
from pipeline.client import Accepted, Client
from pipeline.demo.commands import Asked
from pipeline.model import EventMessage
from pipeline.verify import verify
from tests.helpers.support import Shop, until
from topologies import orders as o
from topologies import users as u

AT = "2009-12-01T10:00:00"
LINES = (o.Line("TEA", 1, 1500),)


def place(client: Client, number: str, customer: str = "anna", country: str = "") -> Accepted | Rejected:
    return client.send("orders", number, o.PlaceOrder(customer, country, AT, LINES), wait=30)


def placed(shop: Shop) -> dict[str, EventMessage]:
    """The first event of each order."""
    decode = codecs(shop.topology.schemas)("orders.event", EventMessage, o.Event, upcasts=o.orders.upcasts).decode
    found: dict[str, Any] = {}
    for record in shop.records("orders.event"):
        found.setdefault(record.key().decode(), decode(record.value()))
    return found


def test_orders_are_placed_where_the_customer_is(shop: Shop) -> None:
    owner, orders = shop.worker("--service", "users"), shop.worker("--service", "orders")
    with Client(shop.bootstrap, shop.topology) as client, shop.query() as query:
        assert place(client, "1") == Rejected("unknown_country", {"customer": "anna"})
        moved = client.send("users", "anna", u.RegisterUser("Anna", "France"), wait=30)
        assert isinstance(moved, Accepted)
        assert query.get("customer_countries", "anna", at_least=moved.position)["row"] == {"country": "France"}
        assert isinstance(place(client, "2"), Accepted)
        assert owner.stop() == 0, "from now on the copy is all there is"
        assert isinstance(place(client, "3"), Accepted)
        assert isinstance(place(client, "4", "nobody", "Spain"), Accepted)
        orders.kill()
        shop.worker("--service", "orders")
        assert isinstance(place(client, "5"), Accepted), "it has waited until its copy was whole again"

        events = placed(shop)
        assert [events[n].body.country for n in "2345"] == ["France", "France", "Spain", "France"]
        assert events["4"].read is None
        ((source, offset),) = Token(events["2"].read or "").positions.items()
        assert source[0] == "users.event"
        assert 0 <= offset < sum(1 for _ in shop.records("users.event")) + 2  # the record, and its marker
        assert query.history("orders", "2")
        told = [event["read"] for event in query.history("orders", "2")]
        assert told == [events["2"].read]
        assert query.get("customer_countries", "anna", at_least=told[0])["row"] == {"country": "France"}

        shop.worker("--service", "users")
        shop.send([Asked("users", "anna", u.ChangeCountry("Italy"))])
        until("the copy follows", lambda: query.get("customer_countries", "anna")["row"] == {"country": "Italy"})
        assert isinstance(place(client, "6"), Accepted)
        assert placed(shop)["6"].body.country == "Italy"
        report = verify(shop.bootstrap, shop.topology, ("users", "orders"), tables=False)
        assert report.clean, report.findings
        assert report.checked["decided with a copy"] == 4
        assert report.rejected == {"orders/unknown_country": 1}

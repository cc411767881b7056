"""An order for more than there is: what one service refuses, the others undo."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.client import Accepted, Client
from pipeline.client.queries import QueryClient
from pipeline.client.wire.read_options import WAIT_S_MAX
from pipeline.demo.checkouts import Shown
from pipeline.demo.shop import orders
from pipeline.errors import PipelineError, UnknownKey

NUMBER = "too-many"  # of the order: no invoice has it
PRICE = 1_000  # thousandths of a pound


class TooMany(NamedTuple):
    """The order. `there`: a product of which it wants one and may have it, or None; `lacking`: one that it may not."""

    customer: str
    country: str
    there: str | None
    lacking: str
    wanted: int

    @property
    def lines(self) -> tuple[Any, ...]:
        """What is ordered."""
        there = [] if self.there is None else [orders.Line(self.there, 1, PRICE)]
        return (*there, orders.Line(self.lacking, self.wanted, PRICE))

    def __str__(self) -> str:
        first = "" if self.there is None else f"1 of {self.there}, of which there is enough, and "
        return f"{NUMBER} wants {first}{self.wanted:,} of {self.lacking}, one more than there are"


def too_many(shown: Shown) -> TooMany | None:
    """Return an order that the shop cannot fulfil, as it is now; None if it has no product or customer."""
    have = {code: row["on_hand"] for code, row in sorted(shown.inventory.items()) if row["registered"]}
    buyer = next((row for row in shown.orders.values() if row["country"]), None)
    if not have or buyer is None:
        return None
    there = next((code for code, units in have.items() if units > 0), None)
    lacking = min((code for code in have if code != there), key=lambda code: have[code], default=there)
    assert lacking is not None
    return TooMany(buyer["customer"], buyer["country"], there if there != lacking else None, lacking, have[lacking] + 1)


def place(client: Client, order: TooMany, checkout: str) -> None:
    """Place the order. Raises PipelineError if it is not even taken down."""
    command = orders.PlaceOrder(order.customer, order.country, "2009-12-31T18:00:00", order.lines, checkout)
    outcome = client.send("orders", NUMBER, command, wait=WAIT_S_MAX)
    if not isinstance(outcome, Accepted):
        raise PipelineError(f"the order {NUMBER} was not taken down: {outcome}; please report this")


def is_undone(query: QueryClient, order: TooMany) -> bool:
    """Return whether the order is refused, and nothing is held for it any more."""
    rows = [("orders", NUMBER), ("inventory", order.lacking)]
    rows += [] if order.there is None else [("inventory", order.there)]
    try:
        found = [query.get(table, key)["row"] for table, key in rows]
    except UnknownKey:
        return False
    return found[0]["status"] == "refused" and not any(row["ledger"]["holds"] for row in found)

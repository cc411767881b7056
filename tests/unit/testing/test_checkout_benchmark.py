"""The comparison of the checkouts: its orders, and what its onlookers call a state in between."""

from collections import Counter
from fractions import Fraction
from typing import Any

import pytest

from benchmarks.checkout.onlookers import LEFT, PARTLY, RESERVED, TAKEN, seen
from benchmarks.checkout.orders import Took, part, percent, percentile, refused
from pipeline.demo.commands import Way
from pipeline.demo.invoices import Invoices
from topologies.inventory import ReceiveStock
from topologies.orders import PlaceOrder
from topologies.payments import SetLimit


def test_each_part_has_the_same_orders_on_keys_of_its_own(invoices: Invoices) -> None:
    one, other = (part(invoices, prefix, 30, Way("2pc", Fraction(1, 2), 5)) for prefix in ("a-", "b-"))
    assert len(one.orders) == 30
    assert [each.key.removeprefix("a-") for each in one.orders] == [
        each.key.removeprefix("b-") for each in other.orders
    ]
    for each in (*one.stock, *one.orders):
        assert each.key.startswith("a-")
    needed: Counter[str] = Counter()
    for asked in one.orders:
        assert isinstance(asked.command, PlaceOrder)
        assert asked.command.checkout == "2pc"
        assert asked.command.customer.startswith("a-")
        for line in asked.command.lines:
            needed[line.code] += line.quantity
        assert sorted(one.products[asked.key]) == sorted({line.code for line in asked.command.lines})
    given = {each.key: each.command.quantity for each in one.stock if isinstance(each.command, ReceiveStock)}
    assert given == {code: count // 2 for code, count in needed.items()}
    assert sum(isinstance(each.command, SetLimit) for each in one.stock) == 10


def order(status: str) -> dict[str, Any]:
    return {"row": {"status": status}}


def product(*, holds: str = "", ended: str = "", committed: bool = True) -> dict[str, Any]:
    held = [{"transaction": holds, "amount": 1}] if holds else []
    return {
        "row": {"ledger": {"holds": held, "ended": [{"transaction": ended, "committed": committed}] if ended else []}}
    }


PLACED, CONFIRMED, REFUSED = order("placed"), order("confirmed"), order("refused")
HELD, TOOK, FREE = product(holds="7"), product(ended="7"), product(holds="8", ended="9")


@pytest.mark.parametrize(
    ("before", "products", "after", "found"),
    [
        (PLACED, [HELD, product(holds="7/1")], PLACED, {RESERVED}),
        (PLACED, [HELD, FREE], PLACED, {PARTLY}),
        (PLACED, [TOOK, HELD], PLACED, {TAKEN, RESERVED}),
        (PLACED, [HELD, TOOK], CONFIRMED, set()),  # decided in between: it may have been so all the time
        (CONFIRMED, [TOOK, HELD], CONFIRMED, {LEFT}),
        (REFUSED, [HELD], REFUSED, {LEFT}),
        (CONFIRMED, [TOOK, TOOK], CONFIRMED, set()),
        (PLACED, [FREE, product(ended="7", committed=False)], PLACED, set()),
        (None, [None], None, set()),
    ],
)
def test_a_state_in_between_is_one_that_both_looks_at_the_order_enclose(
    before: Any, products: Any, after: Any, found: set[str]
) -> None:
    assert seen("7", before, products, after) == found


def test_figures() -> None:
    assert [percentile(range(100, 0, -1), p) for p in (50, 99)] == [51, 100]
    assert percentile([], 50) == 0
    assert (percent(1, 3), percent(1, 0)) == (33.3, 0)
    assert Took(5, 9, "").ms == 4
    assert refused([Took(0, 1, ""), Took(0, 1, "a"), Took(0, 2, "a")]) == {"a": 2}

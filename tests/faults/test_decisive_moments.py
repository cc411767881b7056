"""Who decides a checkout, and who takes part in it, killed at the moments that decide: both ways, on real Kafka.

An order by each way. Payments is not there at first, so both wait for it alone; its worker and the checkouts' then come
and go so that nobody can have heard what they must not have heard. Nothing is left to time but what is about time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.avro.codec import codecs
from pipeline.client import Accepted, Client
from pipeline.errors import UnknownKey
from pipeline.model import EventMessage, Rejected
from pipeline.topology import Topology
from pipeline.verify import verify
from tests.helpers.apart import Apart
from tests.helpers.hasty import CHECKOUTS, HASTY, SHOP
from tests.helpers.support import until
from topologies import inventory, orders, payments
from topologies.inventory import ReceiveStock, RegisterProduct, TakeStock
from topologies.orders import Line, PlaceOrder

pytestmark = pytest.mark.long

WAIT_S = 60.0
PARTICIPANTS = ("orders", "inventory", "payments")
NUMBERS = {"checkout_saga": "1", "checkout_2pc": "2"}
LINES = (Line("tea", 2, 1500), Line("pot", 1, 9000))
TOTAL = 2 * 12_000  # of both orders
STOCK = 10  # of each product
AGGREGATES = {"orders": orders.orders, "inventory": inventory.inventory, "payments": payments.payments}
# What each waits for before it is decided, and once it is and payments alone has not heard of it.
VOTE = {"checkout_saga": ["charge.0"], "checkout_2pc": ["prepare-1.1"]}
OUTCOME = {"checkout_saga": ["confirm.0"], "checkout_2pc": ["commit-1.1"]}
DECIDED = {"checkout_saga": "confirm", "checkout_2pc": "committing"}


class Moment(Apart):
    """The shop, and the two orders."""

    def place(self) -> None:
        """Both orders, held and reserved; the checkouts wait for payments, which is not there."""
        self.start("orders", "inventory", *CHECKOUTS)
        with Client(self.shop.bootstrap, self.topology, "tests") as client:
            for code in ("tea", "pot"):
                client.send("inventory", code, RegisterProduct(code))
                assert isinstance(client.send("inventory", code, ReceiveStock(STOCK), wait=WAIT_S), Accepted)
            for checkout, number in NUMBERS.items():
                order = PlaceOrder("anna", "France", "2009-12-01T10:00:00", LINES, checkout.removeprefix("checkout_"))
                assert isinstance(client.send("orders", number, order, wait=WAIT_S), Accepted)
        until("both wait for payments", lambda: self.waits_for() == VOTE)

    def vote(self) -> None:
        """Payments says yes to both, with nobody there to hear it."""
        self.kill(*CHECKOUTS)
        self.start("payments")
        until("the charges are authorised", lambda: self.row("payments", "anna").get("authorised") == TOTAL)

    def decide(self) -> None:
        """Those who decide come back and do; payments alone, which is away, has not heard of it."""
        self.start(*CHECKOUTS)
        until("payments alone has not answered", lambda: self.waits_for() == OUTCOME)

    def waits_for(self) -> dict[str, list[str]]:
        return {checkout: self.saga(checkout).get("waits_for", []) for checkout in CHECKOUTS}

    def saga(self, checkout: str) -> dict[str, Any]:
        """Where it stands; empty where it has not begun."""
        with self.shop.query() as client, suppress(UnknownKey):
            return client.saga(checkout, NUMBERS[checkout])
        return {}

    def holds(self, table: str) -> list[Any]:
        return [hold for row in self.rows(table).values() for hold in row["ledger"]["holds"]]

    def statuses(self) -> list[str]:
        """Of the orders."""
        return [row["status"] for _, row in sorted(self.rows("orders").items())]

    def stock(self) -> list[tuple[int, int, int]]:
        """Of tea and of pots: on hand, reserved, taken."""
        rows = self.rows("inventory")
        return [tuple(rows[code][name] for name in ("on_hand", "reserved", "taken")) for code in ("tea", "pot")]

    def happened(self, aggregate: str) -> list[str]:
        """The events of the aggregate in its log, sorted by name."""
        events = AGGREGATES[aggregate].events
        decode = codecs(self.topology.schemas)(events.topic, EventMessage, events.event, upcasts=events.upcasts).decode
        return sorted(type(decode(each.value()).body).__name__ for each in self.shop.records(f"{aggregate}.event"))

    def ends(self, statuses: Sequence[str]) -> None:
        """All is over: the checkouts have nobody left to tell, and nothing in the logs or rows is wrong."""
        status = {"confirmed": "done", "refused": "undone"}[statuses[0]]
        over = dict.fromkeys(CHECKOUTS, status)
        until("both are over", lambda: {each: self.saga(each).get("status") for each in CHECKOUTS} == over)
        assert not any(self.waits_for().values())
        assert self.statuses() == list(statuses)
        account = self.row("payments", "anna")
        bought = status == "done"
        assert (account["authorised"], account["charged"]) == (0, TOTAL * bought)
        for table in PARTICIPANTS:  # what the saga leaves to others to follow comes after its own end
            until(f"{table} holds nothing", lambda table=table: not self.holds(table))
        report = verify(self.shop.bootstrap, self.topology, tables=False)
        assert report.clean, report.findings
        assert not [note for note in report.notes if "under way" in note or "at work" in note], report.notes


@pytest.fixture
def topology() -> Topology:
    return SHOP


@pytest.fixture
def moment(kafka: str, tmp_path: Path, topology: Topology) -> Iterator[Moment]:
    made = Moment(
        kafka, tmp_path, topology, "tests.helpers.hasty:HASTY" if topology is HASTY else "tests.helpers.hasty:SHOP"
    )
    yield made
    made.close()


def test_who_has_said_yes_holds_it_while_who_decides_is_gone(moment: Moment) -> None:
    moment.place()
    moment.vote()
    with Client(moment.shop.bootstrap, moment.topology, "tests") as client:  # all who take part are at work
        refused = client.send("inventory", "tea", TakeStock("counter", STOCK - 3), wait=WAIT_S)
        assert isinstance(refused, Rejected)
        assert (refused.reason, refused.details) == ("out_of_stock", {"on_hand": str(STOCK - 4)})
        assert isinstance(client.send("inventory", "tea", TakeStock("counter", 1), wait=WAIT_S), Accepted)
    assert moment.statuses() == ["placed", "placed"]
    assert moment.stock() == [(STOCK - 5, 4, 1), (STOCK - 2, 2, 0)]
    assert moment.row("payments", "anna")["authorised"] == TOTAL
    moment.start(*CHECKOUTS)
    moment.ends(["confirmed", "confirmed"])
    assert moment.stock() == [(STOCK - 5, 0, 5), (STOCK - 2, 0, 2)]


def test_a_decision_in_the_log_is_heard_though_who_made_it_is_gone(moment: Moment) -> None:
    moment.place()
    moment.vote()
    moment.kill(*PARTICIPANTS)
    moment.start(*CHECKOUTS)
    until("both have decided", lambda: {c: moment.saga(c)["step"] for c in CHECKOUTS} == DECIDED)
    moment.kill(*CHECKOUTS)
    assert moment.happened("orders") == ["OrderHeld"] * 2 + ["OrderPlaced"] * 2  # nobody has heard of it
    assert moment.happened("payments") == ["Authorised"] * 2
    assert moment.happened("inventory")[-4:] == ["StockReserved"] * 4
    moment.start(*PARTICIPANTS)  # the outcome was sent with the decision: it waits for them, not for who made it
    until("all have heard of it", lambda: moment.statuses() == ["confirmed", "confirmed"])
    until("and have done it", lambda: moment.row("payments", "anna")["charged"] == TOTAL)
    moment.start(*CHECKOUTS)
    moment.ends(["confirmed", "confirmed"])
    assert moment.stock() == [(STOCK - 4, 0, 4), (STOCK - 2, 0, 2)]


def test_who_is_killed_after_its_yes_learns_the_outcome_once_it_is_back(moment: Moment) -> None:
    moment.place()
    moment.vote()
    moment.kill("payments")
    moment.decide()
    assert moment.statuses() == ["confirmed", "confirmed"]  # the others have gone on
    until("the stock is taken", lambda: moment.stock() == [(STOCK - 4, 0, 4), (STOCK - 2, 0, 2)])
    assert moment.happened("payments") == ["Authorised"] * 2
    moment.start("payments")
    moment.ends(["confirmed", "confirmed"])
    assert moment.happened("payments") == ["Authorised"] * 2 + ["Captured"] * 2


@pytest.mark.parametrize("topology", [HASTY], ids=["hasty"])
def test_a_yes_that_was_given_in_time_counts_however_late_it_is_heard(moment: Moment) -> None:
    moment.place()
    due_ms = time_out(moment)
    moment.vote()
    moment.kill("payments")
    pass_by(due_ms)
    moment.decide()
    moment.start("payments")
    moment.ends(["confirmed", "confirmed"])
    assert moment.stock() == [(STOCK - 4, 0, 4), (STOCK - 2, 0, 2)]


@pytest.mark.parametrize("topology", [HASTY], ids=["hasty"])
def test_a_decision_stands_however_long_who_takes_part_is_gone(moment: Moment) -> None:
    moment.place()
    moment.vote()
    moment.kill("payments")
    moment.decide()
    # A time-out is sent with the end of its deadline: all stand in the log before what payments answers.
    until("people are told of it", lambda: moment.saga("checkout_saga")["status"] == "stuck")
    until("every time is up", lambda: not due(moment))
    assert moment.waits_for() == OUTCOME
    assert moment.statuses() == ["confirmed", "confirmed"]
    moment.start("payments")
    moment.ends(["confirmed", "confirmed"])
    assert moment.stock() == [(STOCK - 4, 0, 4), (STOCK - 2, 0, 2)]


@pytest.mark.parametrize("topology", [HASTY], ids=["hasty"])
def test_all_is_undone_where_both_are_gone_for_longer_than_the_time_out(moment: Moment) -> None:
    moment.place()
    due_ms = time_out(moment)
    moment.kill(*CHECKOUTS)
    pass_by(due_ms)
    assert moment.stock() == [(STOCK - 4, 4, 0), (STOCK - 2, 2, 0)]  # it is not for who holds to give up
    moment.start(*CHECKOUTS)
    # A two-phase commit aborts them all at once. A saga undoes the last step first, and for that it needs payments.
    until("one order is refused", lambda: moment.statuses() == ["placed", "refused"])
    until("its stock is free", lambda: moment.stock() == [(STOCK - 2, 2, 0), (STOCK - 1, 1, 0)])
    until("people are told of the other", lambda: moment.saga("checkout_saga")["status"] == "stuck")
    assert moment.waits_for() == {"checkout_saga": ["undo-charge.0"], "checkout_2pc": ["abort-1.1"]}
    moment.start("payments")  # it finds what it was asked, and that it is not wanted any more
    moment.ends(["refused", "refused"])
    assert moment.stock() == [(STOCK, 0, 0), (STOCK, 0, 0)]
    assert {row["reason"] for row in moment.rows("orders").values()} == {"timeout"}


def time_out(moment: Moment) -> int:
    """When the last of both checkouts gives up, milliseconds since the epoch."""
    found = due(moment)
    assert len(found) == len(CHECKOUTS)
    return max(found)


def due(moment: Moment) -> list[int]:
    """When what the checkouts wait for is due, milliseconds since the epoch."""
    with moment.shop.query() as client:
        return [each["due_ms"] for checkout in CHECKOUTS for each in client.deadlines(checkout, NUMBERS[checkout])]


def pass_by(due_ms: int) -> None:
    """Until after that moment."""
    until("the time is up", lambda: 1000 * time.time() > due_ms)

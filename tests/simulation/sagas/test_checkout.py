"""The shop's checkouts in histories with every fault: orders of both kinds that race for little stock and credit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pipeline.adapters.avro.codec import codecs
from pipeline.model import EventMessage
from pipeline.testing.simulation import Schedule, from_seed
from pipeline.testing.simulation.simulation import known_oracle
from pipeline.testing.simulation.world import World
from pipeline.topology import Topology, load
from tests.helpers.orders_v1 import rolling
from tests.simulation.worlds.seeds import FRESH, PER_TEST
from topologies import checkout_2pc, checkout_saga, inventory, orders, payments

SHOP = load("topologies").only("users", "orders", "inventory", "payments", "checkout_saga", "checkout_2pc")
TAKEN: dict[str, Any] = {"orders": orders.Command, "inventory": inventory.Command, "payments": payments.Command}
SAGAS = (checkout_saga.checkout_saga, checkout_2pc.checkout_2pc)


def commands(rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    for code in ("TEA", "POT"):
        yield "inventory", code, inventory.RegisterProduct(code)
        yield "inventory", code, inventory.ReceiveStock(rng.randrange(1, 6))
    if rng.random() < 0.5:
        yield "payments", "anna", payments.SetLimit(rng.randrange(1, 9) * 1000)
    for n in range(rng.randrange(1, 6)):
        codes = rng.choices(("TEA", "POT", "CUP"), (5, 5, 1), k=rng.randrange(1, 4))
        lines = tuple(orders.Line(code, rng.randrange(1, 3), 1000) for code in codes)
        if rng.random() < 0.2:
            yield "orders", f"C{n}", orders.ReturnGoods("anna", "France", "2009-12-01", lines)
        else:
            yield (
                "orders",
                f"{n}",
                orders.PlaceOrder("anna", "France", "2009-12-01", lines, rng.choice(("saga", "2pc"))),
            )


def schedule(seed: int) -> Schedule:
    """That of a seed. Commands that come again under the same id are meant for the same aggregate."""
    whole = from_seed(seed, commands)
    return replace(whole, commands=tuple(s for s in whole.commands if isinstance(s.command, TAKEN[s.aggregate])))


class Checkouts(World):
    """The shop's world, which has settled once every checkout has."""

    def rows(self, table: str) -> Iterator[Any]:
        for worker in self.workers:
            for (name, _), view in (worker.lane.views if worker.lane else {}).items():
                if name == table and view.copy is None and not view.restoring:
                    for _, value in view.store.scan(view.prefix, view.prefix, 10**9):
                        yield view.codec.decode(value).body

    def is_settled(self) -> bool:
        return super().is_settled() and all(
            saga.summary(row).status in ("done", "undone") for saga in SAGAS for row in self.rows(saga.name)
        )


def play(seed: int, shop: Topology = SHOP) -> list[str]:
    """What is wrong in the history of a seed, by the engine's judge and by the shop's invariants."""
    return Checkouts(known_oracle(shop), schedule(seed)).run()


@pytest.mark.parametrize("first", [0, FRESH])
def test_nothing_is_wrong(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        assert play(seed) == [], seed


# --- some workers are of then: they write orders as these were before day and time were told apart --------------------


def test_nothing_is_wrong_while_old_events_are_written() -> None:
    written: Counter[bool] = Counter()

    def is_old(message: EventMessage) -> bool:
        written[message.time_ms % 2 == 0] += isinstance(message.body, orders.OrderPlaced)
        return message.time_ms % 2 == 0

    shop = replace(SHOP)
    known_oracle(shop, rolling(codecs(shop.schemas), shop.schemas, is_old))
    for seed in range(FRESH, FRESH + PER_TEST // 4):
        assert play(seed, shop) == [], seed
    assert min(written[True], written[False]) > 10


# --- planted: the judge folds with the same functions, so that only an invariant can see it ---------------------------


def keeps_what_is_released(stock: inventory.Stock, event: inventory.Event) -> inventory.Stock:
    after = inventory.evolve(stock, event)
    return replace(after, on_hand=stock.on_hand) if isinstance(event, inventory.StockReleased) else after


def charges_what_is_void(account: payments.Account, event: payments.Event) -> payments.Account:
    after = payments.evolve(account, event)
    if isinstance(event, payments.Voided):
        return replace(after, charged=account.charged + event.amount)
    return after


@pytest.mark.parametrize(
    ("aggregate", "evolve", "broken"),
    [
        (inventory.inventory, keeps_what_is_released, "stock that came is there or taken"),
        (payments.payments, charges_what_is_void, "customers pay for confirmed orders, less returns"),
    ],
)
def test_a_planted_bug_breaks_an_invariant(aggregate: Any, evolve: Any, broken: str) -> None:
    service = replace(SHOP.services[aggregate.name], aggregates=[replace(aggregate, evolve=evolve)])
    shop = replace(SHOP, services={**SHOP.services, aggregate.name: service})
    found = next(found for seed in range(PER_TEST) if (found := play(seed, shop)))
    assert all(each.startswith("broken_invariant") and broken in each for each in found)

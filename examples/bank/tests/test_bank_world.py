"""The whole bank in memory: quiet days, and days on which everything goes wrong that can."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from bank import transfers_2pc as two
from bank import transfers_saga as one
from bank.accounts import OpenAccount, PayIn, PayOut
from pipeline.testing import Simulation, TestDriver
from pipeline.topology import load

BANK = load("bank")
HISTORIES = 24
WAYS = {"transfers_saga": one.BeginTransfer, "transfers_2pc": two.BeginTransfer}


@pytest.mark.parametrize("way", WAYS)
def test_money_goes_from_one_account_to_another_or_stays(way: str) -> None:
    begin = WAYS[way]
    with TestDriver(BANK) as driver:
        driver.send("accounts", "anna", OpenAccount("Anna"), PayIn(Decimal("100.00")))
        driver.send("accounts", "bert", OpenAccount("Bert"))
        driver.send(way, "t1", begin("anna", "bert", Decimal("30.25"), "rent"))
        driver.send(way, "t2", begin("anna", "bert", Decimal("70.00")))
        driver.send(way, "t3", begin("anna", "nobody", Decimal("1.00")))
        driver.send(way, "t4", begin("bert", "anna", Decimal("-5.00")))
        driver.send(way, "t5", begin("anna", "anna", Decimal("60.00"), "to herself"))
        anna, bert = (driver.rows("accounts")[name].body for name in ("anna", "bert"))
        assert (anna.balance, anna.held) == (Decimal("69.75"), 0)
        assert (bert.balance, bert.held) == (Decimal("30.25"), 0)
        lines = [line for key, line in sorted(driver.rows("statement").items()) if line.account == "anna"]
        assert [(line.text, str(line.amount), str(line.balance)) for line in lines] == [
            ("paid in", "100.00", "100.00"),
            ("to bert: rent", "-30.25", "69.75"),
            ("to anna: to herself", "-60.00", "9.75"),
            ("from anna: to herself", "60.00", "69.75"),
        ]


def day_at_the_bank(rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    """What customers ask in one history: more than some of them have, and of an account that there is not."""
    customers = ["anna", "bert", "cora"]
    for customer in customers:
        yield "accounts", customer, OpenAccount(customer.title())
        yield "accounts", customer, PayIn(Decimal(rng.randrange(1, 100)))
    for number in range(rng.randrange(1, 9)):
        amount = Decimal(rng.randrange(-1, 6_000)).scaleb(-2)
        if rng.random() < 0.2:
            yield "accounts", rng.choice(customers), PayOut(amount)
        else:
            way = rng.choice(sorted(WAYS))
            payer, payee = rng.choice(customers), rng.choice([*customers, "nobody"])
            yield way, f"t{number}", WAYS[way](payer, payee, amount, "a gift")


def test_no_fault_makes_money_or_loses_any() -> None:
    """Crashes, zombies, lost answers …: `pipeline verify` and the invariants judge each history at its end."""
    for seed in range(HISTORIES):
        Simulation(BANK, seed, commands=day_at_the_bank).check()

"""Histories of the bank: every type, several services, and functions that raise or time out until they are mended."""

import pytest

from pipeline.testing import Simulation, TestDriver
from pipeline.testing.simulation import Schedule
from pipeline.testing.simulation.schedule import Sent, from_seed
from tests.bank.services import accounts as a
from tests.bank.services import transfers as t
from tests.bank.services.conduct import Conduct
from tests.bank.traffic import BANK, KEYS, commands
from tests.simulation.worlds.seeds import FRESH, PER_TEST

FIXED = range(0, 100, PER_TEST)


@pytest.mark.parametrize("first", [*FIXED, FRESH])
def test_nothing_is_wrong(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        simulation = Simulation(BANK, seed, commands=commands, mend=Conduct.mend)
        if simulation.run().findings:
            simulation.check()


def test_a_command_that_comes_again_with_another_body_is_one_of_its_aggregate() -> None:
    """Else it cannot be written."""
    swapped = 0
    for seed in range(200):
        schedule = from_seed(seed, commands)
        first = {sent.id: sent for sent in schedule.commands if sent.id}
        for sent in schedule.commands:
            if sent.id and sent.command != first[sent.id].command:
                swapped += 1
                assert type(sent.command).__module__ == type(first[sent.id].command).__module__
                assert (sent.aggregate == "limits") == isinstance(sent.command, t.SetLimit)
    assert swapped


@pytest.mark.parametrize("cleared", [True, False])
@pytest.mark.parametrize("memo", ["raise in decide", "raise in decide until mended"])
def test_an_ask_that_was_parked_is_answered_once_it_is_redriven_or_discarded(memo: str, cleared: bool) -> None:
    """That it is parked is told to the saga, too, and is no answer."""
    sent = (
        Sent(5, "accounts", "anna", a.OpenAccount("GB1", a.Profile())),
        Sent(10, "accounts", "anna", a.Deposit(100)),
        Sent(500, "transfers", "t", t.BeginTransfer("t", "anna", "bob", 5, memo)),
    )
    schedule = Schedule(sent, workers=1, partitions=1, mended_ms=10_000, cleared=cleared)
    Simulation(BANK, schedule=schedule, mend=Conduct.mend).check()


def test_money_goes_from_one_to_another_and_some_is_saved() -> None:
    with TestDriver(BANK) as driver:
        for number, key in enumerate(KEYS):
            driver.send("accounts", key, a.OpenAccount(f"GB{number}", a.Profile(name=key)), a.Deposit(100))
        taker, giver = KEYS[:2]
        driver.send("transfers", "t1", t.BeginTransfer("t1", giver, taker, 30))
        driver.send("transfers", "t2", t.BeginTransfer("t2", giver, "nobody", 30))
        driver.send("transfers", "t3", t.BeginTransfer("t3", giver, taker, 300))
        driver.send("accounts", taker, a.Deposit(50, save_to=giver, receipt="r1"), a.OpenAccount("GB1", a.Profile()))
        rows = {key: driver.row("accounts", key).body for key in KEYS}
        assert [rows[key].balance for key in KEYS] == [175, 75, *[100] * (len(KEYS) - 2)]
        found = {key: row.body.progress for key, row in driver.rows("transfers").items()}
        assert {key: (p.status, p.reason) for key, p in found.items()} == {
            "t1": ("done", ""),
            "t2": ("undone", "no_account"),
            "t3": ("undone", "not_enough"),
            "r1/saved": ("done", ""),
        }
        driver.send("limits", "l", t.SetLimit(taker, 0.1), t.SetLimit("nobody", 0.1), t.SetLimit(taker, 0.1))
        # The sum is a float of 32 bits; a limit has 64.
        assert driver.row("limits", "l").body == t.Limit(taker, 0.1, 0.20000000298023224)
        assert driver.row("customers", giver) == a.Profile(name=giver)
        assert driver.row("balances", taker).movements == 2
        assert driver.row("branches", "00000000").customers == len(KEYS)
        driver.send("accounts", giver, a.Withdraw(75), a.CloseAccount(), a.Freeze(1))
        assert driver.row("customers", giver) is None
        assert driver.row("open_accounts", giver) is None
        driver.send("accounts", taker, a.Freeze(5), a.Deposit(1))
        assert driver.row("accounts", taker).body.frozen
        driver.advance(6)
        assert not driver.row("accounts", taker).body.frozen

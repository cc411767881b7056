"""States of an older class become states of today where they are read, one by one, without a rebuild."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import renamed
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.compatibility import breaks
from pipeline.adapters.avro.schemas.files import schema_files
from pipeline.errors import EncodeError, TopologyError, UpcastFailed
from pipeline.model import Aggregate, StateMessage
from tests.helpers import accounts as a


@dataclass(frozen=True, slots=True)
class Wallet:
    """The balance, by its sign."""

    credit: int
    debt: int


@dataclass(frozen=True, slots=True)
class Purse:
    """What was between both."""

    cents: int


def to_purse(old: a.Account) -> Purse:
    return Purse(old.balance)


def to_wallet(old: Purse) -> Wallet:
    return Wallet(max(old.cents, 0), max(-old.cents, 0))


def decide(command: a.Pay, wallet: Wallet) -> list[a.Paid]:
    return [a.Paid(command.amount)]


def evolve(wallet: Wallet, event: a.Paid) -> Wallet:
    return to_wallet(Purse(wallet.credit - wallet.debt + event.amount))


MIGRATE: dict[type, Callable[[Any], Any]] = {a.Account: to_purse, Purse: to_wallet}
NOW = replace(a.FIRST, initial=Wallet(0, 0), decide=decide, evolve=evolve, migrate=MIGRATE)


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Those of before, and those with the change."""
    before = a.write_schemas(tmp_path_factory.mktemp("schemas"))
    now = tmp_path_factory.mktemp("changed") / "schemas"
    shutil.copytree(before, now)
    for each in schema_files([a.service(NOW)], now):
        each.path.write_text(each.text)
    registry = Registry(now)
    assert list(breaks(registry)) == []
    assert registry.register() == ["accounts.state"]
    return before, now


@pytest.fixture
def bank(schemas: tuple[Path, Path]) -> a.Bank:
    """Accounts with some past, and code that has changed since."""
    before, now = schemas
    bank = a.Bank(before)
    bank.pay(10, times=4)
    lane = bank.run(a.FIRST)
    for view in lane.histories.values():
        view.flush()
    bank.stop()
    bank.schemas, bank.make = now, codecs(now)
    return bank


def test_states_are_those_of_today_for_all_who_read_them(bank: a.Bank) -> None:
    bank.run(NOW)
    assert bank.rows() == dict.fromkeys(a.KEYS, Wallet(40, 0))
    assert bank.past(3) == {Wallet(30, 0)}, "of which the history has a state of then"
    bank.pay(-50)
    bank.turn(bank.level)
    assert bank.rows() == dict.fromkeys(a.KEYS, Wallet(0, 10))
    report = bank.verified(NOW)
    assert (report.findings, report.not_judged.total()) == ([], 0)
    bank.stop()
    bank.disks.clear()  # from the topic, which has both now
    bank.run(NOW)
    assert bank.rows() == dict.fromkeys(a.KEYS, Wallet(0, 10))


def test_a_migration_that_does_not_say_what_evolve_would_is_found(bank: a.Bank) -> None:
    wrong = replace(NOW, migrate={a.Account: lambda old: Wallet(old.balance + 1, 0), Purse: to_wallet})
    bank.run(wrong)
    assert {finding.kind for finding in bank.verified(wrong).findings} == {"wrong_state", "wrong_table_row"}


def test_where_one_fails_the_command_is_parked(bank: a.Bank) -> None:
    def picky(old: Purse) -> Wallet:
        raise ValueError("no wallet")

    declared = replace(NOW, migrate={a.Account: to_purse, Purse: picky})
    bank.pay(1)
    bank.lane(declared)
    bank.turn(lambda: bank.lanes["bank-0"].stats.parked == len(a.KEYS))
    bank.crash()
    assert "unreadable" in {finding.kind for finding in bank.verified(declared).findings}


@pytest.mark.parametrize(
    ("migrate", "says"),
    [
        ({a.Account: to_purse, Purse: lambda old: 1 // 0}, "the migration of Purse on accounts.state raised ZeroDiv"),
        ({a.Account: lambda old: old, Purse: to_wallet}, "in a circle"),
        ({a.Account: lambda old: [to_purse(old)], Purse: to_wallet}, "which is no state of today"),
        ({a.Account: lambda old: None, Purse: to_wallet}, "gave None, which is no state of today"),
    ],
)
def test_what_is_no_state_of_today_is_told(schemas: tuple[Path, Path], migrate: Any, says: str) -> None:
    before, now = schemas
    old = codecs(before)("accounts.state", StateMessage, a.Account).encode(StateMessage(1, 0, a.Account(5)))
    with pytest.raises(UpcastFailed, match=says):
        codecs(now)("accounts.state", StateMessage, Wallet, upcasts=migrate).decode(old)


def test_a_class_may_go_on_under_its_name(schemas: tuple[Path, Path], tmp_path: Path) -> None:
    """The old one gets another, and says what it was called."""

    @renamed("Account")
    @dataclass(frozen=True, slots=True)
    class AccountV1:
        balance: int = 0

    @dataclass(frozen=True, slots=True)
    class Account:
        credit: int
        debt: int

    migrate = {AccountV1: lambda old: Account(old.balance, 0)}
    aggregate = replace(NOW, initial=Account(0, 0), migrate=migrate)
    here = tmp_path / "schemas"
    shutil.copytree(schemas[0], here)
    for each in schema_files([a.service(aggregate)], here):
        each.path.write_text(each.text)
    registry = Registry(here)
    assert list(breaks(registry)) == []
    registry.register()
    old = codecs(schemas[0])("accounts.state", StateMessage, a.Account).encode(StateMessage(1, 0, a.Account(5)))
    codec = codecs(here)("accounts.state", StateMessage, Account, upcasts=migrate)
    assert codec.decode(old).body == Account(5, 0)
    assert codec.decode(codec.encode(StateMessage(2, 0, Account(1, 2)))).body == Account(1, 2)


def test_old_states_are_read_only(schemas: tuple[Path, Path]) -> None:
    codec = codecs(schemas[1])("accounts.state", StateMessage, Wallet, upcasts=MIGRATE)
    with pytest.raises(EncodeError, match="Account is an old state, which is read only; give a state of today"):
        codec.encode(StateMessage(1, 0, a.Account(5)))


@pytest.mark.parametrize(
    ("migrate", "says"),
    [
        ({"Account": to_purse}, "give the class of the old state"),
        ({Wallet: to_wallet}, "Wallet is its state of today"),
        ({Purse: lambda: 1}, "the migration of Purse"),
    ],
)
def test_what_cannot_be_declared(migrate: Any, says: str) -> None:
    with pytest.raises(TopologyError, match=says):
        Aggregate("accounts", a.Pay, a.Paid, Wallet(0, 0), decide, evolve, migrate=migrate)

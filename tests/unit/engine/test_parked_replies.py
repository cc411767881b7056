"""Who sent a command is told that it is parked, also if it has waited for another's unique value first."""

from pipeline.adapters.avro.codec import codecs
from pipeline.model import CommandMessage, Parked
from pipeline.testing import TestDriver
from tests.bank.services import accounts as a
from tests.bank.traffic import BANK

ENCODE = codecs(BANK.schemas)("accounts.command", CommandMessage, a.Command).encode


def asked(number: int, command: a.Command) -> bytes:
    """A command of the saga `t`, to whom the reply goes."""
    name, cause = f"transfers/t/hold.{number}/1", "transfers.command/0/0"
    return ENCODE(CommandMessage(name, "c", cause, 1_700_000_000_000, command, None, "transfers.command/0/t"))


def test_what_raises_once_a_value_is_reserved_and_what_waits_behind_it() -> None:
    with TestDriver(BANK, partitions=1, park=True) as driver:
        driver.send_unseen("accounts", "anna", a.OpenAccount("GB1", a.Profile()))
        raises, behind = a.Deposit(1, memo="raise in decide"), a.Deposit(2)
        driver.send("accounts", "anna", asked(0, raises), asked(1, behind))
        told = {m.id: m.body for _, m in driver.records("transfers.command")}
        assert told == {
            "reply:transfers/t/hold.0/1": Parked("Refuses: as asked: raise in decide"),
            "reply:transfers/t/hold.1/1": Parked("it waits behind a parked record of its key"),
        }
        assert driver.parked() == [("accounts.command", "anna", 1)]


def test_what_waits_for_a_value_itself_and_raises_then() -> None:
    with TestDriver(BANK, partitions=1, park=True) as driver:
        taken = a.OpenAccount("GB1", a.Profile())
        driver.send("accounts", "anna", taken)
        driver.send("accounts", "bob", asked(0, taken), asked(1, a.Deposit(2, memo="raise in decide")))
        told = [(m.id, type(m.body).__name__) for _, m in driver.records("transfers.command")]
        assert told == [("reply:transfers/t/hold.0/1", "Replied"), ("reply:transfers/t/hold.1/1", "Parked")]

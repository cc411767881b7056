"""The workload of the side-by-side runs: accounts that are opened, deposited to and withdrawn from.

An ordinary topology. Its records are those of the contract that all stream processors are measured by: one flat record
a topic, in which each event repeats its command, and a refusal is an event too. So `version` and `balance` are the
account's own business here, and part of its state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from pipeline import Aggregate, Idempotency, Service


class Command(NamedTuple):
    """What is asked of an account; `type` is open, deposit or withdraw."""

    command_id: str
    account_id: str
    type: str
    amount: int
    ts: int


class Event(NamedTuple):
    """The answer; `type` is opened, deposited, withdrawn or rejected. Balance and version are those after it."""

    event_id: str | None
    command_id: str
    account_id: str
    type: str
    amount: int
    balance: int
    version: int
    ts: int


class State(NamedTuple):
    """An account. A rejection leaves it as it is."""

    version: int
    balance: int
    last_command_id: str


NEW = State(0, 0, "")


def decide(command: Command, account: State) -> list[Event]:
    """One event for each command."""
    command_id, account_id, kind, amount, ts = command
    version, balance, _ = account
    if kind == "deposit":
        outcome, balance, version = "deposited", balance + amount, version + 1
    elif kind == "open":
        outcome, balance, version = "opened", amount, version + 1
    elif amount <= balance:
        outcome, balance, version = "withdrawn", balance - amount, version + 1
    else:
        outcome = "rejected"
    return [Event(None, command_id, account_id, outcome, amount, balance, version, ts)]


def evolve(account: State, event: Event) -> State:
    """The account after `event`."""
    return account if event.type == "rejected" else State(event.version, event.balance, event.command_id)


# Equal work: the other processors know no repeated command again either, and none that comes later.
accounts = Aggregate(
    "accounts",
    command=Command,
    event=Event,
    initial=NEW,
    decide=decide,
    evolve=evolve,
    idempotency=None,
    history=False,
    deadlines=False,
)
service = Service("accounts", aggregates=[accounts])
# The same as the engine does it by itself: each command's reply is kept, and a repeated command is known again.
remembering = Service("accounts", aggregates=[replace(accounts, idempotency=Idempotency())])

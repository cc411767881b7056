"""A topology whose event is split in two, and whose other one is dropped: as it was then, and as it is now.

Service `accounts` wrote Transferred and Greeted then; now it writes Withdrawn and Charged, and nothing for a greeting.
Service `mirror` came with the change: it follows the accounts in all ways, old events included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import Aggregate, EventContext, Projection, Reaction, Replica, Send, Service
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.files import schema_files
from pipeline.topology import Topology


@dataclass(frozen=True, slots=True)
class Transfer:
    amount: int


@dataclass(frozen=True, slots=True)
class Greet:
    text: str


@dataclass(frozen=True, slots=True)
class Transferred:
    """An event of before."""

    amount: int
    fee: int


@dataclass(frozen=True, slots=True)
class Greeted:
    """An event of before."""

    text: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    amount: int


@dataclass(frozen=True, slots=True)
class Charged:
    fee: int


@dataclass(frozen=True, slots=True)
class Account:
    balance: int = 0
    charges: int = 0


# --- then -------------------------------------------------------------------------------------------------------------


def decide_then(command: Transfer | Greet, _: Account) -> list[Transferred | Greeted]:
    return [Transferred(command.amount, 1)] if isinstance(command, Transfer) else [Greeted(command.text)]


def evolve_then(account: Account, event: Transferred | Greeted) -> Account:
    if isinstance(event, Greeted):
        return account
    return Account(account.balance - event.amount - event.fee, account.charges + event.fee)


THEN = Aggregate("accounts", Transfer | Greet, Transferred | Greeted, Account(), decide_then, evolve_then)

# --- now --------------------------------------------------------------------------------------------------------------


def decide(command: Transfer | Greet, _: Account) -> list[Withdrawn | Charged]:
    return [Withdrawn(command.amount), Charged(1)] if isinstance(command, Transfer) else []


def evolve(account: Account, event: Withdrawn | Charged) -> Account:
    match event:
        case Withdrawn(amount):
            return replace(account, balance=account.balance - amount)
        case Charged(fee):
            return Account(account.balance - fee, account.charges + fee)


def split(old: Transferred) -> list[Withdrawn | Charged]:
    return [Withdrawn(old.amount), Charged(old.fee)]


def dropped(_: Greeted) -> tuple[()]:
    return ()


UPCASTS: dict[type, Callable[[Any], Any]] = {Transferred: split, Greeted: dropped}
NOW = Aggregate("accounts", Transfer | Greet, Withdrawn | Charged, Account(), decide, evolve, upcasts=UPCASTS)


# --- the mirror -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Note:
    text: str


@dataclass(frozen=True, slots=True)
class Noted:
    text: str


@dataclass(frozen=True, slots=True)
class Notes:
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sum:
    events: int = 0
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Amount:
    amount: int


def amount_of(event: Withdrawn | Charged) -> int:
    return event.amount if isinstance(event, Withdrawn) else event.fee


def add(row: Sum, event: Withdrawn | Charged) -> Sum:
    return Sum(row.events + 1, row.amount + amount_of(event))


def route(key: str, event: Withdrawn | Charged) -> Iterator[tuple[str, Amount]]:
    yield type(event).__name__, Amount(amount_of(event))


def add_amount(row: Sum, message: Amount) -> Sum:
    return Sum(row.events + 1, row.amount + message.amount)


def react(key: str, event: Withdrawn | Charged, context: EventContext) -> list[Send]:
    return [Send(key, Note(f"{type(event).__name__} {amount_of(event)} at {context.version}"))]


def mirror(accounts: Aggregate[Any, Any, Any] = NOW) -> Service:
    notes = Aggregate(
        "notes",
        command=Note,
        event=Noted,
        initial=Notes(),
        decide=lambda command, _: [Noted(command.text)],
        evolve=lambda notes, event: Notes((*notes.texts, event.text)),
    )
    return Service(
        "mirror",
        aggregates=[notes],
        reactions=[Reaction("noting", accounts.events, react)],
        projections=[
            Projection("sums", [accounts.events], Sum(), add),
            Projection("kinds", [accounts.events], Sum(), add_amount, by_key=Amount, route=route),
        ],
        replicas=[Replica("copied", accounts.events, Sum(), add)],
    )


def topologies(schemas: Path, now: Aggregate[Any, Any, Any] = NOW) -> tuple[Topology, Topology]:
    """Return it as it was and as it is, with their schemas in two directories in `schemas`."""
    then = Topology("split", {"accounts": Service("accounts", aggregates=[THEN])}, schemas / "then")
    services = {"accounts": Service("accounts", aggregates=[now]), "mirror": mirror(now)}
    later = Topology("split", services, schemas / "now")
    for topology in (then, later):
        topology.schemas.mkdir()
        manifest = then.schemas / "manifest.json"
        if manifest.exists():
            (topology.schemas / "manifest.json").write_text(manifest.read_text())
        write_schemas(topology.services.values(), topology.schemas)
    return then, later


def write_schemas(services: Any, directory: Path) -> None:
    for file in schema_files(services, directory):
        file.path.write_text(file.text)
    Registry(directory).register()

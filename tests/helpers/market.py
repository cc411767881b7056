"""A market for tests of sagas: goods that can be had in amounts or by one at a time, and who wants several of them.

`sale` takes them step by step, `move` in a two-phase commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.model import Aggregate, Invariant, Rejected, Saga, Service, linear_saga, two_phase_saga
from pipeline.model.saga.coordinator import Transaction, Work
from pipeline.model.saga.participant import Ledger, Participant
from pipeline.model.saga.steps import Progress, Retry, Step, To
from pipeline.model.saga.two_phase import COORDINATOR, Coordination
from pipeline.topology import Topology

# --- the participants: things that can be had in amounts, or by one at a time -----------------------------------------


@dataclass(frozen=True, slots=True)
class Hold:
    transaction: str
    amount: int
    since: int = 0


@dataclass(frozen=True, slots=True)
class Confirm:
    transaction: str


@dataclass(frozen=True, slots=True)
class Release:
    transaction: str
    again_since: int = 0


@dataclass(frozen=True, slots=True)
class Restock:
    amount: int


Command = Hold | Confirm | Release | Restock


@dataclass(frozen=True, slots=True)
class Held(Hold):
    pass


@dataclass(frozen=True, slots=True)
class Confirmed:
    transaction: str


@dataclass(frozen=True, slots=True)
class Released:
    transaction: str
    again_since: int


@dataclass(frozen=True, slots=True)
class Restocked:
    amount: int


@dataclass(frozen=True, slots=True)
class Goods:
    free: int = 0
    gone: int = 0
    ledger: Ledger = field(default=Ledger())


def decide(command: Any, goods: Goods) -> list[Any] | Rejected:
    match command:
        case Hold(transaction, amount, since):
            return [Held(transaction, amount, since)] if amount <= goods.free else Rejected("out_of_stock")
        case Confirm(transaction):
            return [Confirmed(transaction)]
        case Release(transaction, again_since):
            return [Released(transaction, again_since)]
        case Restock(amount):
            return [Restocked(amount)]
    raise AssertionError(command)


def evolve(goods: Goods, event: Any) -> Goods:
    ledger = goods.ledger
    match event:
        case Held(transaction, amount):
            return Goods(goods.free - amount, goods.gone, ledger.hold(transaction, amount))
        case Confirmed(transaction):
            amount = ledger.amount(transaction)
            return Goods(goods.free, goods.gone + amount, ledger.end(transaction, committed=True))
        case Released(transaction, again_since):
            amount = ledger.amount(transaction)
            ended = ledger.end(transaction, committed=False, again_since=again_since)
            return Goods(goods.free + amount, goods.gone, ended)
        case Restocked(amount):
            return Goods(goods.free + amount, goods.gone, ledger)
    raise AssertionError(event)


def goods(guarded: Callable[[Any, Any], Any]) -> Aggregate[Any, Any, Goods]:
    return Aggregate("goods", Command, Held | Confirmed | Released | Restocked, Goods(), guarded, evolve)


ESCROW = Participant(Hold, Confirm, Release, ledger=lambda state: state.ledger)
LOCK = replace(ESCROW, exclusive=True)
NOTHING_DONE = Progress()

# --- sale -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Buy:
    order: str
    tea: int
    pot: int


@dataclass(frozen=True, slots=True)
class Sale:
    order: str = ""
    tea: int = 0
    pot: int = 0
    progress: Progress = NOTHING_DONE


def begun(buy: Buy) -> Sale:
    return Sale(buy.order, buy.tea, buy.pot)


def lines(sale: Sale) -> list[tuple[str, int]]:
    return [("tea", sale.tea), ("pot", sale.pot)]


def held(sale: Sale) -> list[To]:
    return [To("goods", key, Hold(sale.order, amount)) for key, amount in lines(sale)]


def released(sale: Sale) -> list[To]:
    return [To("goods", key, Release(sale.order)) for key, _ in lines(sale)]


def confirmed(sale: Sale) -> list[To]:
    return [To("goods", key, Confirm(sale.order)) for key, _ in lines(sale)]


def pay(sale: Sale) -> list[To]:
    return [To("goods", "purse", Hold(sale.order, sale.tea + sale.pot))]


def unpay(sale: Sale) -> list[To]:
    return [To("goods", "purse", Release(sale.order))]


def paid(sale: Sale) -> list[To]:
    return [To("goods", "purse", Confirm(sale.order))]


def steps(*, ask_again: bool) -> tuple[Step, ...]:
    """`ask_again`: where commands may get lost."""
    locked = Retry(attempts=2, first_s=1, on=("locked",))
    return (
        Step("reserve", do=held, undo=released, timeout_s=10, retry=locked, ask_again=ask_again),
        Step("pay", do=pay, undo=unpay, timeout_s=10, ask_again=ask_again),
        Step("take", do=lambda sale: [*confirmed(sale), *paid(sale)], must=True, timeout_s=10, ask_again=ask_again),
    )


STEPS = steps(ask_again=True)


def sale_saga(*steps: Step) -> Saga[Any]:
    return linear_saga(
        "sale", state=Sale(), begin=Buy, begun=begun, asks={"goods": Command}, versions={1: steps or STEPS}
    )


SALE = sale_saga()


# --- move -----------------------------------------------------------------------------------------------------------

IDLE = Transaction()


@dataclass(frozen=True, slots=True)
class Move:
    """Takes one of each of the places, in their order."""

    name: str
    since: int
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moving:
    name: str = ""
    since: int = 0
    places: tuple[str, ...] = ()
    transaction: Transaction = IDLE


def works(state: Moving, attempt: int) -> list[Work]:
    t = f"{state.name}/{attempt}"
    hold, confirm = Hold(t, 1, state.since), Confirm(t)
    return [Work("goods", key, hold, confirm, Release(t), Release(t, state.since)) for key in state.places]


def move_saga(table: Coordination = COORDINATOR, attempts: int = 4, tell_again_s: float | None = 20) -> Saga[Any]:
    return two_phase_saga(
        "move",
        state=Moving(),
        begin=Move,
        begun=lambda move: Moving(move.name, move.since, move.places),
        asks={"goods": Command},
        works=works,
        settled=lambda state: [To("goods", "bell", Restock(1))],
        vote_s=10,
        tell_again_s=tell_again_s,
        retry=Retry(attempts=attempts, on=("locked",)),
        table=table,
    )


MOVE = move_saga()


# --- the topology -----------------------------------------------------------------------------------------------------

GOODS = goods(ESCROW.guards(decide))


def taken(rows: Mapping[str, Mapping[str, Any]]) -> Counter[str]:
    """How much of each of the goods went to deals that came about."""
    found: Counter[str] = Counter()
    for sale in rows["sale"].values():
        if sale.progress.status == "done":
            found += Counter(tea=sale.tea, pot=sale.pot, purse=sale.tea + sale.pot)
    for move in rows["move"].values():
        if move.transaction.state == "committed":
            found += Counter(move.places)
    return found


def not_taken(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Goods of which more or less is gone than deals took."""
    for key, each in rows["goods"].items():
        if each.gone != taken(rows)[key]:
            yield f"{each.gone} of {key} are gone, and deals took {taken(rows)[key]}"


ALL_OR_NOTHING = Invariant("what is gone went to deals that came about", ("goods", "sale", "move"), not_taken)
MARKET = Topology(
    "market",
    {
        "market": Service("market", aggregates=[GOODS]),
        "deals": Service("deals", sagas=[sale_saga(*steps(ask_again=False)), move_saga(tell_again_s=None)]),
    },
    Path(__file__).parent / "market_schemas",
    invariants=(ALL_OR_NOTHING,),
)

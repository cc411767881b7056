"""Two services for histories: `rates` says what a currency is worth, and `sales` decides with its own copy of that."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import Aggregate, Copy, Deadline, Idempotency, Rejected, Replica, Service, Source
from pipeline.testing.simulation import Schedule, from_seed
from pipeline.topology import Topology

SCHEMAS = Path(__file__).parent / "rates_schemas"
CURRENCIES = ("franc", "lira", "mark")
JAMMED = 5  # a rate that broken code raises on, where it decides
UNFIT = 7  # the same, where it keeps the copy


class Code:
    """The state of this very code, which a history breaks and mends."""

    mended = True

    @classmethod
    def mend(cls, mended: bool) -> None:
        cls.mended = mended


@dataclass(frozen=True, slots=True)
class SetRate:
    rate: int


@dataclass(frozen=True, slots=True)
class DropRate:
    pass


@dataclass(frozen=True, slots=True)
class RateSet:
    rate: int


@dataclass(frozen=True, slots=True)
class RateDropped:
    pass


@dataclass(frozen=True, slots=True)
class Rate:
    rate: int = 0


rates = Aggregate(
    "rates",
    SetRate | DropRate,
    RateSet | RateDropped,
    Rate(),
    lambda command, _: [RateSet(command.rate) if isinstance(command, SetRate) else RateDropped()],
    lambda _, event: Rate(event.rate if isinstance(event, RateSet) else 0),
)

# --- sales -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sell:
    """`later`: once more in a while, at the rates of then."""

    amount: int
    currencies: tuple[str, ...]
    later: bool = False


@dataclass(frozen=True, slots=True)
class Sold:
    amount: int


@dataclass(frozen=True, slots=True)
class Sales:
    total: int = 0


@dataclass(frozen=True, slots=True)
class KnownRate:
    rate: int = 0


def evolve_known(_: KnownRate, event: RateSet | RateDropped) -> KnownRate | None:
    if isinstance(event, RateDropped):
        return None
    if event.rate == UNFIT and not Code.mended:
        raise ValueError(f"{UNFIT} does not fit")
    return KnownRate(event.rate)


known_rates = Replica("known_rates", Source("rates.event", RateSet | RateDropped), KnownRate(), evolve_known)


def decide(command: Sell, _: Sales, known: Copy[KnownRate]) -> list[Any] | Rejected:
    """One event for each currency, as they are sold for the rates of one moment; nothing where no rate is known."""
    sold: list[Any] = []
    for currency in command.currencies:
        row = known.get(currency)
        if row is None:
            return Rejected("no_rate", {"currency": currency})
        if row.rate == JAMMED and not Code.mended:
            raise ValueError(f"{JAMMED} does not fit")
        sold.append(Sold(command.amount * row.rate))
    again = [Deadline("again", replace(command, later=False), after=1.5)] if command.later else []
    return [*sold, *again]


sales = Aggregate(
    "sales",
    Sell,
    Sold,
    Sales(),
    decide,
    lambda sales, event: Sales(sales.total + event.amount),
    Idempotency(window_s=5.0, records=12),
    reads=known_rates,
)
TOPOLOGY = Topology(
    "rates",
    {
        "rates": Service("rates", aggregates=[rates]),
        "sales": Service("sales", aggregates=[sales], replicas=[known_rates]),
    },
    SCHEMAS,
)


def commands(rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    """What clients ask in one history: rates change while goods are sold."""
    for _ in range(rng.randrange(4, 20)):
        if rng.random() < 0.5:
            yield "rates", rng.choice(CURRENCIES), SetRate(rng.randrange(1, 9)) if rng.random() < 0.8 else DropRate()
        else:
            currencies = tuple(rng.sample(CURRENCIES, rng.choice((0, 1, 1, 1, 2))))
            yield "sales", f"shop-{rng.randrange(3)}", Sell(rng.randrange(1, 5), currencies, rng.random() < 0.2)


def schedule(seed: int) -> Schedule:
    """That of a seed. Commands that come again under the same id are meant for the same aggregate."""
    whole = from_seed(seed, commands)
    fitting = (sent for sent in whole.commands if isinstance(sent.command, Sell) == (sent.aggregate == "sales"))
    return replace(whole, commands=tuple(fitting))

"""Histories of sagas: a world that has settled only once every saga has, and what must be true of it then."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pipeline.model.saga.saga import Intervention
from pipeline.testing.simulation import Schedule, from_seed
from pipeline.testing.simulation.simulation import known_oracle
from pipeline.testing.simulation.world import World
from tests.helpers.market import MARKET, MOVE, SALE, Buy, Goods, Move, Restock, taken

KEYS = ("tea", "pot", "purse", "a", "b")


def commands(rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    """What clients ask, and what a person does, in one history."""
    for key in KEYS:
        yield "goods", key, Restock(rng.randrange(1, 6))
    for n in range(rng.randrange(1, 4)):
        yield "sale", f"o{n}", Buy(f"o{n}", rng.randrange(1, 3), rng.randrange(1, 3))
    for n in range(rng.randrange(1, 4)):
        yield "move", f"m{n}", Move(f"m{n}", n + 1, tuple(rng.sample(("a", "b", "tea"), rng.randrange(1, 4))))
    if rng.random() < 0.3:
        yield (*rng.choice((("sale", "o0"), ("move", "m0"))), Intervention("abort", "eve", "for a test"))
    if rng.random() < 0.2:
        yield "sale", "o0", Intervention("retry", "eve", "for a test")


class Deals(World):
    """The market's world."""

    def rows(self, table: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for worker in self.workers:
            for (name, _), view in (worker.lane.views if worker.lane else {}).items():
                if name == table and view.copy is None and not view.restoring:
                    for key, value in view.store.scan(view.prefix, view.prefix, 10**9):
                        found[key[len(view.prefix) :].decode()] = view.codec.decode(value).body
        return found

    def is_settled(self) -> bool:
        if not super().is_settled():
            return False
        kinds = (("sale", SALE), ("move", MOVE))
        return all(s.summary(row).status in ("done", "undone") for name, s in kinds for row in self.rows(name).values())

    def wrong_sums(self) -> Iterator[str]:
        """Nothing is held, and what is gone is what the deals took that came about."""
        gone = taken({table: self.rows(table) for table in ("sale", "move")})
        stocked: Counter[str] = Counter()
        decode = self.oracle.codec["goods.event"].decode
        for log in self.kafka.topics["goods.event"].logs:
            for record in log.archive:
                if record.decided and type(event := decode(record.value()).body).__name__ == "Restocked":
                    stocked[record.key().decode()] += event.amount
        for key, goods in self.rows("goods").items():
            if goods != Goods(stocked[key] - gone[key], gone[key], goods.ledger) or goods.ledger.holds:
                yield f"{key}: {goods}, of which {stocked[key]} came and {gone[key]} were taken"

    def close(self) -> None:
        if not self._closed and not self.findings:
            self.findings += list(self.wrong_sums())
        super().close()


def play(seed: int, which: Schedule | None = None) -> list[str]:
    """What is wrong in the history of a seed."""
    return Deals(known_oracle(MARKET), which or from_seed(seed, commands)).run()

"""What others see and get while orders are checked out: who reads them, and who wants the same products."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from pipeline.client import Accepted, Client
from pipeline.client.queries import QueryClient
from pipeline.errors import Contended, NotYet, UnknownKey
from pipeline.model.saga.participant import name_of
from topologies.inventory import TakeStock

LATELY = 60  # orders that were placed last: those to look at
PAUSE_S = 0.02
TOGETHER_S = 1.0  # for a moment at which nothing of an order is held
SALES_S = 0.2  # between two sales over the counter
ANSWER_S = 60.0
RESERVED, PARTLY, TAKEN, LEFT = (
    "reserved, the order undecided",
    "reserved in part, the order undecided",
    "taken, the order undecided",
    "reserved, the order decided",
)
STATES = (RESERVED, PARTLY, TAKEN, LEFT)
Row = Mapping[str, Any]


def seen(number: str, before: Row | None, products: Sequence[Row | None], after: Row | None) -> set[str]:
    """Which states in between three answers show: of the order, of its products, and of the order once more.

    Undecided is an order that was so still after its products were read, decided one that was so before: what is in
    between is then a state of the shop, and not of the reader who asks for one thing after the other.
    """
    stands = {_stands(number, product) for product in products}
    found = set()
    if after is not None and after["row"]["status"] == "placed":
        if "held" in stands:
            found.add(PARTLY if "" in stands else RESERVED)
        if "taken" in stands:
            found.add(TAKEN)
    if before is not None and before["row"]["status"] != "placed" and "held" in stands:
        found.add(LEFT)
    return found


def _stands(number: str, product: Row | None) -> str:
    """What a product's ledger has for an order: held, taken, or nothing."""
    ledger = {"holds": [], "ended": []} if product is None else product["row"]["ledger"]
    if any(name_of(hold["transaction"]) == number for hold in ledger["holds"]):
        return "held"
    taken = any(name_of(ended["transaction"]) == number and ended["committed"] for ended in ledger["ended"])
    return "taken" if taken else ""


class _Meanwhile(threading.Thread):
    """Does something again and again while the body of its `with` runs; what it fails on is raised at the end."""

    def __init__(self, pause_s: float) -> None:
        super().__init__(daemon=True)
        self._pause_s = pause_s
        self._over = threading.Event()
        self._failed: BaseException | None = None

    def once(self) -> None:
        """What it does."""
        raise NotImplementedError

    def run(self) -> None:
        """Until it is told that it is over."""
        try:
            while not self._over.wait(self._pause_s):
                self.once()
        except BaseException as error:
            self._failed = error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        if self._failed is not None:
            raise self._failed


class Onlooker(_Meanwhile):
    """Reads orders that were placed last, each with its products.

    `together`: by `read_together`; else eventually, one after the other. `lately`: filled by who places orders.
    """

    def __init__(
        self, query: QueryClient, products: Mapping[str, list[str]], lately: deque[str], *, together: bool
    ) -> None:
        super().__init__(PAUSE_S)
        self._query, self._products, self._lately, self._together = query, products, lately, together
        self._rng = random.Random(1)
        self.found: Counter[str] = Counter()  # answers that show it, by what they show
        self.reads = 0
        self.contended = 0  # `read_together` that found no moment, or was not in time

    def once(self) -> None:
        """One order."""
        if not self._lately:
            return
        number = self._lately[self._rng.randrange(len(self._lately))]
        codes = self._products[number]
        if self._together:
            keys = [("orders", number), *(("inventory", code) for code in codes)]
            try:
                order, *products = self._query.read_together(keys, wait=TOGETHER_S)
            except (Contended, NotYet):
                self.contended += 1
                return
            self.found.update(seen(number, order, products, order))
        else:
            before = self._order(number)
            stock = self._query.get_many("inventory", codes, consistency="eventual")
            self.found.update(seen(number, before, stock, self._order(number)))
        self.reads += 1

    def _order(self, number: str) -> Row | None:
        with suppress(UnknownKey):
            return self._query.get("orders", number, consistency="eventual")
        return None


class Sales(_Meanwhile):
    """Sells one unit of a product over the counter, without a checkout, and waits for the answer."""

    def __init__(self, client: Client, codes: Sequence[str]) -> None:
        super().__init__(SALES_S)
        self._client, self._codes = client, codes
        self._rng = random.Random(1)
        self.took_s: list[float] = []
        self.outcomes: Counter[str] = Counter()  # accepted, or the reason of the refusal

    def once(self) -> None:
        """One sale."""
        began = time.monotonic()
        outcome = self._client.send("inventory", self._rng.choice(self._codes), TakeStock("counter", 1), wait=ANSWER_S)
        self.took_s.append(time.monotonic() - began)
        self.outcomes["accepted" if isinstance(outcome, Accepted) else outcome.reason] += 1

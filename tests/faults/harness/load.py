"""A steady load on the shop: seeded commands whose results are known, sent by a thread of its own."""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.client import Accepted, Client, Pending
from pipeline.demo.commands import Asked
from pipeline.errors import NoReply
from pipeline.topology import Topology
from tests.faults.harness.witness import WITNESSES, Witness
from topologies import inventory, orders, users

PRODUCTS = [f"P{n}" for n in range(24)]
SCARCE = ("S0", "S1")  # of which only the first orders get some
FEW = 60
WANTS_SCARCE = 0.1  # the share of orders that ask for some of it
USERS = [f"u{n}" for n in range(24)]
COUNTRIES = ("France", "Spain", "United Kingdom", "Norway")
DAYS = 28
AGAIN = 0.08  # the share of commands that are sent a second time a little later, as by a client without an answer
LATER, LATER_S = 0.2, 3.0  # the share of adjustments that are to be decided later, and how much later at most
ASKED = 0.05  # the share whose outcome somebody waits for
REPLY_S = 90.0
PLENTY = 10**9  # of each other product, so that nothing depends on which of two commands comes first
TWO_PHASE = 0.25  # the share of orders whose checkout is a two-phase commit
BATCH_S = 0.05


@dataclass(slots=True)
class Sent:
    """What was sent and what must come of it, kept by plain sums; no command, event or fold of the shop involved."""

    events: dict[str, str] = field(default_factory=dict)  # command id -> aggregate, where it must have one event
    refused: set[str] = field(default_factory=set)  # ids of commands that must have no event
    # What must come of documents, as (class of the event, document, aggregate id), each once.
    moved: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    uncertain: dict[str, orders.PlaceOrder] = field(default_factory=dict)  # by number; to be confirmed or refused
    figures: dict[str, Any] = field(default_factory=dict)
    repeated: int = 0  # sent a second time under the same id
    unanswered: list[str] = field(default_factory=list)  # ids whose reply did not come
    misled: list[str] = field(default_factory=list)  # what replies said, where that is not so
    reads: Counter[str] = field(default_factory=Counter)  # of witnesses, answered, by consistency
    stale: list[str] = field(default_factory=list)  # which of them were

    def __len__(self) -> int:
        return len(self.events) + len(self.refused)

    def sells(self, number: str, order: orders.PlaceOrder) -> None:
        """The order is confirmed."""
        self.figures["orders"]["confirmed"] += 1
        self.moved["OrderConfirmed", number, number] += 1
        self.moved["Captured", number, order.customer] += 1
        total = self._adds("revenue", order)
        self.figures["customers"][order.customer]["orders"] += 1
        self.figures["customers"][order.customer]["spent"] += total
        for line in order.lines:
            self.moved["ReservedTaken", number, line.code] += 1
            self.figures["stock"][line.code] -= line.quantity
            self.figures["units_sold"][line.code] += line.quantity

    def takes_back(self, number: str, back: orders.ReturnGoods) -> None:
        """A return, which nobody refuses."""
        self.moved["Refunded", number, back.customer] += 1
        self.figures["returns"] += 1
        self.figures["customers"][back.customer]["refunded"] += self._adds("refunds", back)
        for line in back.lines:
            self.moved["StockPutBack", number, line.code] += 1
            self.figures["stock"][line.code] += line.quantity

    def _adds(self, figure: str, document: orders.PlaceOrder | orders.ReturnGoods) -> int:
        total = sum(line.quantity * line.price for line in document.lines)
        self.figures[figure][document.country][document.at[:10]] += total
        return total


class Shoppers:
    """Makes up commands and adds up what they come to."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._seed = seed
        self._documents = 0
        self.sent = Sent()
        amounts: dict[str, Any] = {name: defaultdict(lambda: defaultdict(int)) for name in ("revenue", "refunds")}
        self.sent.figures = amounts | {
            "orders": {"placed": 0, "confirmed": 0, "refused": 0},
            "returns": 0,
            "adjustments": 0,
            "units_sold": defaultdict(int),
            "stock": {},
            "customers": {},
            "customer_countries": {},
        }

    def opening(self) -> list[Asked]:
        """Products with their stock, and users. To be stored before the rest."""
        asked = []
        for code in (*PRODUCTS, *SCARCE):
            self.sent.figures["stock"][code] = PLENTY if code in PRODUCTS else FEW
            asked.append(Asked("inventory", code, inventory.RegisterProduct(f"Product {code}")))
            asked.append(Asked("inventory", code, inventory.ReceiveStock(self.sent.figures["stock"][code])))
        for name in (*USERS, *WITNESSES):
            self.sent.figures["customers"][name] = {"orders": 0, "spent": 0, "refunded": 0}
            self.sent.figures["customer_countries"][name] = COUNTRIES[0]
            asked.append(Asked("users", name, users.RegisterUser(name, COUNTRIES[0])))
        return asked

    def next(self) -> tuple[Asked, bool]:
        """A command, and whether it has an event."""
        dice = self._rng.random()
        if dice < 0.15:
            return self.moves_away(), True
        if dice < 0.2:
            return self._changes_email(), True
        if dice < 0.4:
            return self._adjusts(), True
        if dice < 0.45 and self._documents:  # a number that was used before
            number = str(self._rng.randrange(self._documents))
            return Asked("orders", number, orders.PlaceOrder("u0", "France", self._day(), self._lines())), False
        return self._trades(is_return=dice > 0.85), True

    def command_id(self) -> str:
        return f"{self._seed}-{len(self.sent)}"

    def _day(self) -> str:
        return f"2009-12-{self._rng.randrange(DAYS) + 1:02}T10:00:00"

    def _lines(self) -> tuple[orders.Line, ...]:
        codes = self._rng.sample(PRODUCTS, self._rng.randint(1, 3))
        return tuple(orders.Line(code, self._rng.randint(1, 9), self._rng.randint(100, 9999)) for code in codes)

    def moves_away(self) -> Asked:
        """A command for users, which has an event."""
        countries = self.sent.figures["customer_countries"]
        name = self._rng.choice(USERS)
        countries[name] = self._rng.choice([c for c in COUNTRIES if c != countries[name]])
        return Asked("users", name, users.ChangeCountry(countries[name]))

    def _changes_email(self) -> Asked:
        name = self._rng.choice(USERS)
        return Asked("users", name, users.ChangeEmail(f"{name}-{len(self.sent)}@shop.fr"))  # to be reserved first

    def _adjusts(self) -> Asked:
        code, quantity = self._rng.choice(PRODUCTS), self._rng.choice([-3, -2, -1, 1, 2, 3])
        self.sent.figures["stock"][code] += quantity
        self.sent.figures["adjustments"] += 1
        return Asked("inventory", code, inventory.AdjustStock(quantity, "counted"))

    def _trades(self, *, is_return: bool) -> Asked:
        number, customer, country = str(self._documents), self._rng.choice(USERS), self._rng.choice(COUNTRIES)
        at, lines = self._day(), self._lines()
        self._documents += 1
        if is_return:
            back = orders.ReturnGoods(customer, country, at, lines)
            self.sent.takes_back(number, back)
            return Asked("orders", number, back)
        self.sent.figures["orders"]["placed"] += 1
        way = "2pc" if self._rng.random() < TWO_PHASE else "saga"
        if is_uncertain := self._rng.random() < WANTS_SCARCE:
            lines += (orders.Line(self._rng.choice(SCARCE), self._rng.randint(1, 9), 1000),)
        order = orders.PlaceOrder(customer, country, at, lines, way)
        if is_uncertain:
            self.sent.uncertain[number] = order
        else:
            self.sent.sells(number, order)
        return Asked("orders", number, order)

    def note(self, command_id: str, aggregate: str, *, has_event: bool) -> None:
        """The command was sent."""
        if has_event:
            self.sent.events[command_id] = aggregate
        else:
            self.sent.refused.add(command_id)


class Load:
    """Sends commands at a steady rate, until it is ended; a sender that stays healthy while the workers do not."""

    def __init__(self, bootstrap: str, topology: Topology, seed: int, per_second: int) -> None:
        self._shoppers = Shoppers(seed)
        self._client = Client(bootstrap, topology)
        self._per_batch = max(1, round(per_second * BATCH_S))
        self._dice = random.Random(f"again {seed}")
        self._last: deque[tuple[str, Asked]] = deque(maxlen=200)
        self._pending: list[tuple[Pending, bool]] = []
        self._ending, self._ended = threading.Event(), False
        self._burst = 0, 0  # commands of all kinds, and for users alone, to be sent at once
        self._burst_stored = threading.Event()
        self._failed: BaseException | None = None
        for asked in self._shoppers.opening():
            self._send(asked, has_event=True)
        self._client.flush()
        self._witness = Witness(bootstrap, topology)
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def _send(self, asked: Asked, *, has_event: bool) -> None:
        command_id = self._shoppers.command_id()
        if isinstance(asked.command, inventory.AdjustStock) and self._dice.random() < LATER:
            after = self._dice.uniform(0, LATER_S)
            pending = self._client.ask(asked.aggregate, asked.key, asked.command, command_id=command_id, after=after)
            self._pending.append((pending, has_event))
            self._shoppers.note(command_id, asked.aggregate, has_event=has_event)
            return  # sent again without a time, it would be decided now, and only the last who sends it is answered
        if self._dice.random() < ASKED:
            pending = self._client.ask(asked.aggregate, asked.key, asked.command, command_id=command_id)
            self._pending.append((pending, has_event))
        else:
            self._client.send(asked.aggregate, asked.key, asked.command, command_id=command_id)
        self._shoppers.note(command_id, asked.aggregate, has_event=has_event)
        self._last.append((command_id, asked))
        if self._dice.random() < AGAIN:
            command_id, asked = self._dice.choice(self._last)
            self._client.send(asked.aggregate, asked.key, asked.command, command_id=command_id)
            self._shoppers.sent.repeated += 1

    def _run(self) -> None:
        try:
            while not self._ending.wait(BATCH_S):
                more, more_users = self._burst
                for _ in range(self._per_batch + more):
                    asked, has_event = self._shoppers.next()
                    self._send(asked, has_event=has_event)
                for _ in range(more_users):
                    self._send(self._shoppers.moves_away(), has_event=True)
                if more or more_users:
                    self._client.flush()
                    self._burst = 0, 0
                    self._burst_stored.set()
        except BaseException as error:
            self._failed = error

    def burst(self, commands: int = 0, of_users: int = 0, patience_s: float = 60.0) -> None:
        """Sends so many more at once, of all kinds or for users alone; returns when they are stored."""
        self._burst_stored.clear()
        self._burst = commands, of_users
        assert self._burst_stored.wait(patience_s), f"the load stands still: {self._failed!r}"

    def end(self) -> Sent:
        """Stops; returns what was sent, all of it stored."""
        sent = self._shoppers.sent
        if self._ended:
            return sent
        self._ended = True
        self._ending.set()
        self._thread.join(30)
        if self._failed:
            raise self._failed
        self._client.flush()
        witnessed = self._witness.end()
        sent.events |= witnessed.events
        for number, back in witnessed.returns.items():
            sent.takes_back(number, back)
        sent.reads, sent.stale = witnessed.reads, witnessed.stale
        for pending, has_event in self._pending:
            try:
                outcome = pending.result(REPLY_S)
            except NoReply as error:
                sent.unanswered.append(str(error))
                continue
            if isinstance(outcome, Accepted) is not has_event or (has_event and len(outcome.events) != 1):  # type: ignore[union-attr]
                sent.misled.append(f"{pending.id}: {outcome}")
        self._client.close()
        return sent

    @contextmanager
    def unwitnessed(self) -> Iterator[None]:
        """Nobody reads meanwhile, in this process."""
        self._witness.rest()
        try:
            yield
        finally:
            self._witness.wake()

    def abandon(self) -> None:
        """Stops, whatever becomes of what was sent."""
        self._ending.set()
        self._thread.join(30)
        self._witness.abandon()

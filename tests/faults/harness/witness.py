"""Readers under the load: each sees whether what it has just written is in what it reads, while faults strike."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pipeline import AsyncQueryClient, Token
from pipeline.client import AsyncClient
from pipeline.errors import NotYet, TableUnavailable, UnknownKey
from pipeline.topology import Topology
from tests.helpers.support import until
from topologies import orders, users

WITNESSES = ("w0", "w1")  # customers that nobody else sends anything for; registered by the load
PAUSE_S = 0.2
WAIT_S, PATIENCE_S = 10.0, 60.0  # of one read; what is not answered then says nothing
END_S = 2 * PATIENCE_S
LINE = orders.Line("P0", 1, 1000)


@dataclass(slots=True)
class Witnessed:
    """What the witnesses have sent and seen."""

    events: dict[str, str] = field(default_factory=dict)  # command id -> aggregate, each of which must have one event
    returns: dict[str, orders.ReturnGoods] = field(default_factory=dict)  # by number
    reads: Counter[str] = field(default_factory=Counter)  # answered, by consistency
    unanswered: int = 0
    stale: list[str] = field(default_factory=list)

    def judge(self, consistency: str, customer: str, found: int, sent: int) -> None:
        """What the row shows of the witness's own commands; nobody else sends any."""
        self.reads[consistency] += 1
        if found != sent:
            self.stale.append(f"{consistency} of {customer}: {found}, and {sent} was sent and stored before")


class Witness:
    """The witnesses, in a thread of their own."""

    def __init__(self, bootstrap: str, topology: Topology) -> None:
        self._bootstrap, self._topology = bootstrap, topology
        self._witnessed = Witnessed()
        self._ending, self._resting = threading.Event(), threading.Event()
        self._tokens: dict[str, Token] = {}  # of all that a customer has returned
        self._at_work = 0  # witnesses between the beginning and the end of their steps
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)
        self._thread.start()

    def end(self) -> Witnessed:
        """Stops once all have come to the end of what they do."""
        self.abandon(END_S)
        if self._failed is not None:
            raise self._failed
        assert not self._thread.is_alive(), f"witnesses have not come to their end within {END_S:.0f} s"
        return self._witnessed

    def abandon(self, patience_s: float = 30.0) -> None:
        """Stops, whatever becomes of what was sent."""
        self._ending.set()
        self._thread.join(patience_s)

    def rest(self) -> None:
        """Has them begin nothing more until `wake`; returns when they have come to the end of their steps."""
        self._resting.set()
        until("the witnesses rest", lambda: not self._at_work, END_S)

    def wake(self) -> None:
        self._resting.clear()

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:
            self._failed = error

    async def _all(self) -> None:
        async with (
            AsyncClient(self._bootstrap, self._topology, "witness") as client,
            AsyncQueryClient(self._bootstrap, self._topology, PATIENCE_S) as query,
            asyncio.TaskGroup() as tasks,
        ):
            for customer in WITNESSES:
                for steps in (self._returns, self._renames):
                    tasks.create_task(self._again(customer, steps, client, query))

    async def _again(
        self,
        customer: str,
        steps: Callable[[str, int, AsyncClient, AsyncQueryClient], Awaitable[None]],
        client: AsyncClient,
        query: AsyncQueryClient,
    ) -> None:
        number = 0
        while not self._ending.is_set():
            if self._resting.is_set():
                await asyncio.sleep(PAUSE_S)
                continue
            number += 1
            self._at_work += 1
            try:
                await steps(customer, number, client, query)
            except (NotYet, TableUnavailable):
                self._witnessed.unanswered += 1
            except UnknownKey:
                self._witnessed.stale.append(f"{customer}: no row, and {number} was sent and stored before")
            finally:
                self._at_work -= 1
            await asyncio.sleep(PAUSE_S)

    async def _returns(self, customer: str, number: int, client: AsyncClient, query: AsyncQueryClient) -> None:
        """What was sent to one service is in the row of another, behind a repartition, at least at its token."""
        back = orders.ReturnGoods(customer, "France", "2009-12-01T10:00:00", (LINE,))
        document, command_id = f"{customer}-{number}", f"{customer}-return-{number}"
        self._witnessed.events[command_id], self._witnessed.returns[document] = "orders", back
        _, stored = await client.store("orders", document, back, command_id=command_id)
        # Of those before, too: each stands on a partition of its own, and a read that was not answered has not waited.
        token = self._tokens[customer] = stored | self._tokens.get(customer, stored)
        found = await query.get("customers", customer, at_least=token, wait=WAIT_S)
        self._witnessed.judge("at_least", customer, found["row"]["refunded"], number * LINE.quantity * LINE.price)

    async def _renames(self, customer: str, number: int, client: AsyncClient, query: AsyncQueryClient) -> None:
        """What is stored is in a linearizable read that begins afterwards, decided or not."""
        command_id = f"{customer}-name-{number}"
        self._witnessed.events[command_id] = "users"
        await client.store("users", customer, users.ChangeName(f"{number}"), command_id=command_id)
        found = await query.get("users", customer, consistency="linearizable", wait=WAIT_S)
        self._witnessed.judge("linearizable", customer, int(found["row"]["name"]), number)

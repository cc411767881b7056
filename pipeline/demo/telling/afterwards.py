"""What the demo does once every figure is checked: an order that cannot be, and orders followed record by record."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.client import Client
from pipeline.client.queries import QueryClient
from pipeline.demo.checkouts import Shown
from pipeline.demo.patience import Patience
from pipeline.demo.telling.levels import show_levels
from pipeline.demo.telling.refusal import NUMBER, is_undone, place, too_many
from pipeline.demo.telling.voice import Voice
from pipeline.demo.worker import LOOK_S
from pipeline.explain.run import explain
from pipeline.explain.show import show_brief
from pipeline.explain.story import Story
from pipeline.topology import Topology


@dataclass(frozen=True, slots=True)
class Afterwards:
    """The demo's last steps. `patience`: makes what waits for the workers."""

    voice: Voice
    bootstrap: str
    topology: Topology
    query: QueryClient
    patience: Callable[[], Patience]

    def refuse(self, at_rest: Shown, checkout: str) -> str | None:
        """Place an order for more than there is, and show how it ends. Return its number; None without products.

        Raises PipelineError.
        """
        if (order := too_many(at_rest)) is None:
            return None
        self.voice.step(f"One more order: {order}", "What one service refuses, the others have to undo.")
        with self._client() as client:
            place(client, order, checkout)
        patience = self.patience()
        while not self.patience().read(lambda: is_undone(self.query, order)):
            if not patience.look("not undone"):
                raise patience.stalled(f"the order {NUMBER} is not undone")
            time.sleep(LOOK_S)
        show_brief(self.voice.console, explain(self.bootstrap, self.topology, "orders", NUMBER, 1))
        return NUMBER

    def explain(self, *numbers: str | None) -> list[Story]:
        """Print a read at each level. Return the stories of these orders. Raises PipelineError."""
        with self._client() as client:
            show_levels(self.voice.console, client, self.query)
        return [explain(self.bootstrap, self.topology, "orders", number, 1) for number in numbers if number]

    def _client(self) -> Client:
        return Client(self.bootstrap, self.topology, "demo")

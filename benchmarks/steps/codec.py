"""Microseconds a record to read and to write, Python and the extension: `python -m benchmarks.steps.codec`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from timeit import Timer
from typing import Any

from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.model import CommandMessage, EventMessage, StateMessage
from topologies import inventory, orders

ID, NOW = "3f2504e0-4f89-41d3-9a0c-0305e82c3301", 1_795_410_000_123
FIELDS: dict[str, Any] = {f.name: 1234 if f.type == "int" else f"a {f.name}" for f in dataclasses.fields(orders.Line)}
LINE = orders.Line(**FIELDS)
PLACED: dict[str, Any] = {
    f.name: (LINE,) * 3 if f.name == "lines" else f"a {f.name}" for f in dataclasses.fields(orders.OrderPlaced)
}
RECORDS = [
    ("inventory.command", inventory.Command, CommandMessage(ID, ID, None, NOW, inventory.TakeStock("536365", 6))),
    ("inventory.event", inventory.Event, EventMessage(17, ID, ID, NOW, inventory.StockTaken("536365", 6))),
    ("inventory.state", inventory.Stock, StateMessage(17, NOW, inventory.Stock(True, "a mug", 90, 100, 0, 0, 10))),
    ("orders.event", orders.Event | orders.OrderPlacedV1, EventMessage(1, ID, ID, NOW, orders.OrderPlaced(**PLACED))),
]
ROUNDS, CALLS = 200, 500  # many short rounds: the best of them met no other process


def main() -> None:
    """Prints a line for each kind of record."""
    registry = Registry(Path(__file__).parents[2] / "schemas")
    for topic, body, value in RECORDS:
        python, native = (Codec(registry, topic, type(value), body, native=native) for native in (False, True))
        data = python.encode(value)
        figures = []
        for name in ("decode", "encode"):
            for codec in (python, native):
                timer = Timer("f(x)", globals={"f": getattr(codec, name), "x": data if name == "decode" else value})
                figures.append(min(timer.repeat(ROUNDS, CALLS)) / CALLS * 1e6)
        print("{:18} {:4} bytes  decode {:.2f} / {:.2f}  encode {:.2f} / {:.2f}".format(topic, len(data), *figures))


if __name__ == "__main__":
    main()

"""`make fuzz-service`: random topologies, HTTP requests and command lines in turn, for as long as one likes.

Ends with code 1 at the first finding, made short by hypothesis, with the seed that repeats it:

    python -m tests.fuzz --minutes 60 --seed 7 [--part topologies|http|command-line]
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from pipeline.broker import local
from tests.bank.traffic import BANK
from tests.fuzz import command_line, http, topologies
from tests.helpers.support import Shop
from tests.simulation.worlds.seeds import FRESH

PARTS = ("topologies", "command-line", "http")
EXAMPLES = {"topologies": 30, "command-line": 400, "http": 8}  # a turn


def fuzzed(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], examples: int, number: int) -> None:
    """Check so many examples of a seed. Raises what the shortest failing one raises."""
    quietly = settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True
    )
    seed(number)(quietly(given(strategy)(lambda drawn: check(drawn))))()


class Places:
    """What the parts need, made when the first turn wants it: a directory, a broker and a worker."""

    def __init__(self, home: Path, cleanup: ExitStack) -> None:
        self._home, self._cleanup = home, cleanup
        self._bank: tuple[Shop, str] | None = None

    def bank(self) -> tuple[Shop, str]:
        """The bank on a broker, and its worker's address."""
        if self._bank is None:
            broker = local.up(self._home / "broker", times=local.SHORT_TIMES)
            self._cleanup.callback(local.down, self._home / "broker")
            shop = Shop(broker.bootstrap, self._home, BANK)
            self._cleanup.callback(shop.close)
            self._bank = shop, http.started(shop)
        return self._bank

    def turn(self, part: str, number: int) -> str:
        """One turn of a part; return what it did. Raises what it finds."""
        examples = EXAMPLES[part]
        if part == "topologies":
            fuzzed(topologies.cases(), topologies.check, examples, number)
            return f"{examples} topologies"
        if part == "command-line":
            with tempfile.TemporaryDirectory() as home, command_line.place(Path(home)):
                fuzzed(command_line.calls(), command_line.check, examples, number)
                if self._bank is not None:
                    fuzzed(command_line.calls(), lambda call: http.call_there(call, self.bank()[0]), 60, number)
            return f"{examples} calls"
        shop, address = self.bank()
        return http.one_round(shop, address, number, examples, lambda _: None)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=FRESH)
    parser.add_argument("--part", choices=PARTS, help="only this one")
    options = parser.parse_args()
    logging.disable(logging.ERROR)  # of functions that raise as asked
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()
    with ExitStack() as cleanup:
        home = Path(tempfile.mkdtemp(prefix="fuzz-"))
        places = Places(home, cleanup)
        for number in itertools.count(options.seed):
            for part in [options.part] if options.part else PARTS:
                since = time.monotonic()
                if since - began > options.minutes * 60:
                    print("nothing wrong", flush=True)
                    return 0
                try:
                    done = places.turn(part, number)
                except BaseException:
                    print(f"{part}, seed {number}: a finding; kept: {home}", flush=True)
                    traceback.print_exc()
                    print(f"again: python -m tests.fuzz --part {part} --seed {number} --minutes 1", flush=True)
                    return 1
                print(
                    f"{(since - began) / 60:5.1f} min, {part}, seed {number}: {done}, {time.monotonic() - since:.0f} s",
                    flush=True,
                )
    raise AssertionError("counting has no end")


if __name__ == "__main__":
    sys.exit(main())

"""`make simulate`: histories of ever new seeds, for as long as one likes. Ends with code 1 at the first finding."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter

from pipeline.testing import Simulation
from pipeline.testing.simulation.schedule import POINTS, from_seed, with_mishap, with_pauses
from tests.bank import traffic
from tests.bank.services.conduct import Conduct
from tests.simulation.worlds import tills
from tests.simulation.worlds.seeds import FRESH

WORLDS = {
    "tills": (tills.TOPOLOGY, tills.commands, tills.Code.mend),
    "bank": (traffic.BANK, traffic.commands, Conduct.mend),
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=FRESH)
    parser.add_argument("--topology", choices=WORLDS, help="only of this one; else each fourth history is the bank's")
    options = parser.parse_args()
    print(f"seeds from {options.seed}", flush=True)
    began, seed, steps = time.monotonic(), options.seed, 0
    struck: Counter[str] = Counter()
    points: set[str] = set()
    while time.monotonic() - began < options.minutes * 60:
        topology, commands, mend = WORLDS[options.topology or ("tills" if seed % 4 else "bank")]
        schedule = from_seed(seed, commands)
        if seed % 32 == 26:
            schedule = with_mishap(schedule, random.Random(seed), commands)
        elif seed % 16 == 9:
            schedule = with_pauses(schedule, random.Random(f"pauses {seed}"))
        simulation = Simulation(topology, seed, schedule=schedule, mend=mend)
        history = simulation.run()
        if history.findings:
            print(simulation.explain())
            return 1
        seed, steps = seed + 1, steps + history.steps
        struck += history.struck
        points |= history.points
    count, took_s = seed - options.seed, time.monotonic() - began
    crashed = {point for point in POINTS if f"crash {point}" in points}
    print(f"{count:,} histories, {count / took_s:.1f}/s, {steps / count:,.0f} calls each; nothing wrong")
    print("faults:", ", ".join(f"{kind} {times:,}" for kind, times in struck.most_common()))
    print(f"crashed at {len(crashed)} of {len(POINTS)} named points")
    if missed := sorted(set(POINTS) - crashed):
        print("not at:", ", ".join(missed))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The bank while its workers are killed: python -m tests.faults.runs.bank --minutes 5 --seed 1

Two workers, each of which dies at a moment that its plan draws, or is killed from outside, and is started again.
Traffic has every type, odd keys, and functions that raise or are slow. Once all has settled, `verify` judges it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from pipeline.broker import local
from pipeline.verify import verify
from tests.bank.traffic import ANY_RAISING, BANK, send
from tests.faults.harness.fleet import Fleet
from tests.helpers.support import Shop

PLAN = "*:*%0.0005=kill"
COMMANDS, EVERY_S = 40, 4.0
PATIENCE_S = 180.0


def run(bootstrap: str, home: Path, seconds: float, seed: int) -> tuple[int, dict[str, int]]:
    """Return how often a worker was killed, and what was checked. Raises AssertionError with the findings."""
    rng = random.Random(f"bank {seed}")
    home.mkdir(exist_ok=True)
    bank = Shop(bootstrap, home, BANK)
    fleet = Fleet(home, bootstrap, ANY_RAISING, BANK.name)
    try:
        fleet.replacement = f"seed={seed}; {PLAN}"
        for number in range(2):
            fleet.start(f"seed={seed + number}; {PLAN}")
        began, number, kills = time.monotonic(), seed * 1_000, 0
        while time.monotonic() < began + seconds:
            send(bootstrap, number, COMMANDS)
            number += 1
            due = time.monotonic() + rng.uniform(0, 2 * EVERY_S)
            while time.monotonic() < due:
                fleet.keep()
                time.sleep(0.05)
            worker = rng.choice(fleet.workers)
            kills += worker.alive
            worker.kill()
        fleet.replacement = ""
        for worker in list(fleet.workers):
            worker.kill()
        with bank.watcher() as watcher:
            fleet.until("everything is folded", lambda: watcher.look()[1], PATIENCE_S)
        fleet.until_all_run()
        report = verify(bootstrap, BANK, patience_s=PATIENCE_S)
        assert report.clean, "\n".join(map(str, report.findings))
        assert not fleet.deaths, fleet.deaths
        return kills, dict(report.checked)
    finally:
        fleet.close()
        bank.close()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bank-"))
    broker = local.up(home / "broker", times=local.SHORT_TIMES)
    try:
        kills, checked = run(broker.bootstrap, home / "bank", 60 * options.minutes, options.seed)
    finally:
        local.down(home / "broker")
    print(f"killed {kills} times; nothing wrong:", ", ".join(f"{what} {count:,}" for what, count in checked.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Workers that are never left in peace: all the time one of them is killed, ended or stopped, and comes back."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence

from tests.faults.harness.fleet import Fleet, Process
from tests.helpers.support import Shop

ASLEEP_S = 8.0  # longer than the session in the group
LOOK_S = 0.2
PATIENCE_S = 90.0


class Unrest:
    """Two workers of some services, and a thread that strikes them in turn as soon as both hold their share."""

    def __init__(self, shop: Shop, services: Sequence[str], seed: int) -> None:
        named = [part for service in services for part in ("--service", service)]
        self.fleet = Fleet(shop.home, shop.bootstrap, named)
        self.struck: Counter[str] = Counter()
        self.failed: BaseException | None = None
        self._partitions = sum(shop.partitions(service) for service in services)
        self._rng = random.Random(f"unrest {seed}")
        self._over = threading.Event()
        self._addresses: list[str] = []
        self._looked_s = 0.0
        self._thread = threading.Thread(target=self._run, name="unrest", daemon=True)

    def __enter__(self) -> Unrest:
        try:
            for _ in range(2):
                self.fleet.start()
            self.fleet.until_all_run()
        except BaseException:
            self.fleet.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()
        self.fleet.close()

    def begin(self) -> None:
        """Strikes from now on."""
        self._thread.start()

    def rest(self) -> None:
        """Strikes no more; both workers run when this returns, unless something has failed."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(2 * PATIENCE_S)

    @property
    def addresses(self) -> list[str]:
        """Where workers serve; one that has just gone may be among them. For one thread."""
        if not self._addresses or time.monotonic() - self._looked_s > LOOK_S:
            found = [address for worker in list(self.fleet.workers) if (address := worker.address)]
            self._addresses, self._looked_s = found or self._addresses, time.monotonic()
        return self._addresses

    def _run(self) -> None:
        try:
            for kind, strike in itertools.cycle(STRIKES.items()):
                self.fleet.until_all_run()
                if self._over.wait(self._rng.uniform(0.2, 1.5)):
                    return
                # Who has been there for longest: those that come back stand behind the others.
                strike(self, self.fleet.workers[0])
                self.struck[kind] += 1
        except BaseException as error:
            self.failed = error

    # --- strikes ------------------------------------------------------------------------------------------------------

    def kill(self, victim: Process) -> None:
        """Back at once: its supervisor sees to that."""
        victim.kill()
        self.fleet.keep()

    def kill_for_long(self, victim: Process) -> None:
        """Back once the other has taken over all that it had."""
        self.fleet.release(victim)
        victim.kill()
        (left,) = self.fleet.workers
        self.fleet.until("the other has taken over", lambda: self._held_by(left) == self._partitions, PATIENCE_S)
        self.fleet.start()

    def end(self, victim: Process) -> None:
        """By SIGTERM, and back at once."""
        self.fleet.release(victim)
        victim.stop()
        self.fleet.start()

    def stop(self, victim: Process) -> None:
        """By SIGSTOP for longer than its session; then it goes on, with the questions that it was asked meanwhile."""
        victim.pause()
        self._over.wait(ASLEEP_S)
        victim.resume()

    @staticmethod
    def _held_by(worker: Process) -> int:
        status = worker.status()
        return sum(each["assigned"] for each in status.values()) if status and worker.runs() else 0


STRIKES = {
    "killed": Unrest.kill,
    "killed, taken over": Unrest.kill_for_long,
    "ended": Unrest.end,
    "stopped": Unrest.stop,
}

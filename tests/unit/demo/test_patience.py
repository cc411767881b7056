"""The demo waits for as long as something goes on, on however slow a machine, and no longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.demo.patience import HOLDS_S, STALLED_S, Patience
from pipeline.errors import PipelineError, TableUnavailable

HELD = {"orders": "orders is held; go on with: pipeline resume orders"}


class Workers:
    log = Path("worker.log")
    failed = False

    def revive(self) -> None:
        if self.failed:
            raise PipelineError("the worker ended with code 2")

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Machine:
    """A slow machine: each look at it takes some seconds."""

    def __init__(self, look_s: float = 1.0) -> None:
        self.now, self.look_s, self.workers = 0.0, look_s, Workers()
        self.held: dict[str, str] = {}
        self.patience = Patience(self.workers, lambda: self.held, clock=self._clock)

    def _clock(self) -> float:
        self.now += self.look_s
        return self.now


def test_it_goes_on_while_new_things_are_seen_however_long_each_takes() -> None:
    machine = Machine(STALLED_S / 2)
    assert all(machine.patience.look(done) for done in range(1000))
    assert machine.now > 100 * STALLED_S


def test_what_only_comes_and_goes_is_no_progress() -> None:
    machine = Machine()
    looks = 0
    while machine.patience.look(looks % 2):
        looks += 1
    assert STALLED_S - 5 < machine.now < STALLED_S + 5


def test_tables_that_move_slowly_are_waited_for() -> None:
    machine, tries = Machine(STALLED_S / 2), iter(range(20))

    def read() -> str:
        for n in tries:
            raise TableUnavailable(f"no worker owns partition {n}")
        return "rows"

    assert machine.patience.read(read) == "rows"


def test_tables_that_do_not_come_end_it_with_the_reason_and_the_log() -> None:
    def read() -> Any:
        raise TableUnavailable("no worker owns partition 0 of 'users'")

    with pytest.raises(PipelineError, match=r"no worker owns partition 0 of 'users'; nothing new for .*: worker.log"):
        Machine().patience.read(read)


def test_a_worker_that_cannot_go_on_ends_it_at_once() -> None:
    machine = Machine()
    machine.workers.failed = True
    with pytest.raises(PipelineError, match="ended with code 2"):
        machine.patience.look(1)


def test_a_service_that_is_held_ends_it_with_the_cure_also_while_others_go_on() -> None:
    machine = Machine()
    assert all(machine.patience.look(done) for done in range(10))
    machine.held = HELD
    with pytest.raises(PipelineError, match="orders is held; go on with: pipeline resume orders"):
        [machine.patience.look(done) for done in range(10, 10 + int(2 * HOLDS_S))]

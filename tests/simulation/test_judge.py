"""What the judge of simulated histories is made of: `pipeline verify`, disks and tables; and what it may know.

One replay judges simulated and real histories alike, so what is planted holds both. The oracle of the fault suite has
an opinion of its own: it calls verify, and counts besides. So have the sums and invariants of the market and the shop.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from pipeline.model import BARRIER
from pipeline.testing.simulation import from_seed
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.testing.simulation.simulation import known_oracle
from pipeline.testing.simulation.world import World
from pipeline.verify import judge
from tests.simulation.worlds.planted import PLANTED, SEEDS
from tests.simulation.worlds.tills import TOPOLOGY, Code, commands
from tests.unit.test_purity import ROOT, imports

JUDGE = ROOT / "pipeline" / "testing" / "simulation" / "judge"
LAYOUT = {"pipeline.engine.state", *(f"pipeline.engine.state.{each}" for each in ("positions", "row_keys", "table"))}
# What each file of the judge may know of the engine.
OF_THE_ENGINE = {
    "__init__.py": set(),
    "differences.py": {"pipeline.engine.ports"},
    "disk.py": {"pipeline.engine.ports", *LAYOUT},
    "history.py": {"pipeline.engine.ports"},
    "oracle.py": {"pipeline.engine.plan", "pipeline.engine.state.table", "pipeline.engine.steps.inbox"},
    "past.py": {
        "pipeline.engine.copies.history_follower",
        "pipeline.engine.ports",
        "pipeline.engine.state.history_reader",
    },
    "settled.py": {"pipeline.engine.state.table"},
}
OF_VERIFY = {"pipeline.verify", "pipeline.verify.sources.history"}
OF_VERIFY |= {"pipeline.verify.report"}  # how two values are shown


def known_of(path: Path, *layers: str) -> set[str]:
    return {name for name in imports(path.read_text()) if name.startswith(tuple(f"pipeline.{x}" for x in layers))}


def test_what_it_may_import() -> None:
    files = {path.name: path for path in JUDGE.glob("*.py")}
    assert {name: known_of(path, "engine", "worker") for name, path in files.items()} == OF_THE_ENGINE
    for path in files.values():
        assert known_of(path, "verify") <= OF_VERIFY, path


def test_the_oracle_of_the_fault_suite_counts_without_the_engine_and_without_a_replay() -> None:
    path = ROOT / "tests" / "faults" / "oracle.py"
    assert known_of(path, "engine", "worker", "flow", "verify", "testing") == {"pipeline.verify"}


def test_barriers_are_nothing_to_it() -> None:
    folded = 0
    for seed in range(12):
        world = World(known_oracle(TOPOLOGY), from_seed(seed, commands), mend=Code.mend)
        for log in world.kafka.topics["tills.command"].logs:
            for at_s in (0.05, 0.5, 2.0, 5.0):
                world.kafka.clock.later(at_s, partial(world.kafka.append, log.tp, None, None, [BARRIER]))
        assert world.run() == []
        folded += sum(worker.stats.barriers for worker in world.workers)
    assert folded > 0


class JudgedAnew(World):
    """Lets a judge that has seen no other history judge this one, too."""

    known: list[str]
    anew: list[str]

    def close(self) -> None:
        self.known = self.oracle.judge(self)
        self.anew = sorted(map(str, judge(SimulatedHistory(self), self.oracle.topology).findings))
        super().close()


@pytest.mark.parametrize("name", ["a_record_overtakes_those_that_wait", "a_redrive_acts_twice"])
def test_a_history_is_judged_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found in one is not found in the next, although the checks are made once."""
    oracle = known_oracle(TOPOLOGY)
    with monkeypatch.context() as patch:
        PLANTED[name](patch)
        world = JudgedAnew(oracle, from_seed(SEEDS[name], commands), mend=Code.mend)
        assert world.run()
    assert world.anew
    assert set(world.anew) <= set(world.known)
    assert World(oracle, from_seed(SEEDS[name], commands), mend=Code.mend).run() == []


class ParkedAnyway(World):
    """A record of this history was parked although nobody raised on it, as far as the judge can know."""

    def may_raise(self, call: object, *args: object) -> bool:
        return False


def test_a_command_that_was_parked_without_a_reason() -> None:
    worlds = (ParkedAnyway(known_oracle(TOPOLOGY), from_seed(seed, commands), mend=Code.mend) for seed in range(100))
    assert any("was parked without a reason" in finding for world in worlds for finding in world.run())

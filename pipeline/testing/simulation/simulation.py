"""One history: from a seed or a schedule to its findings, and to the story of a failing one."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from pipeline.engine.state.table import Codecs
from pipeline.testing.simulation.judge.oracle import Oracle, oracle_of
from pipeline.testing.simulation.schedule import Commands, Schedule, from_seed
from pipeline.testing.simulation.shrink import regression_test, shrink
from pipeline.testing.simulation.world import Mend, World
from pipeline.topology import Topology


@dataclass(slots=True)
class History:
    """The result of a schedule. `findings`: what is wrong, if anything. `story`: its events, if `telling`."""

    schedule: Schedule
    findings: list[str]
    steps: int
    virtual_s: float
    struck: Counter[str]  # faults by kind
    points: set[str]  # `<kind> <point>` of each fault
    fingerprint: str  # of every record on the broker; equal for equal histories
    story: list[str] = field(default_factory=list)


ORACLES_MAX = 16
_ORACLES: dict[tuple[int, bool], Oracle] = {}  # by the topology's identity; each holds its topology


def known_oracle(topology: Topology, codecs: Codecs | None = None, *, check: bool = False) -> Oracle:
    """Return the judge of a topology, made once."""
    oracle = _ORACLES.get((id(topology), check))
    if oracle is None or oracle.topology is not topology:
        if len(_ORACLES) >= ORACLES_MAX:  # of topologies that a test makes one after another
            _ORACLES.clear()
        oracle = _ORACLES[id(topology), check] = oracle_of(topology, codecs, check=check)
    return oracle


class Simulation:
    """A topology in a world of its own, with the faults and interleavings of a seed or a schedule.

    `commands(random)`: the commands of a seed's history, as (aggregate, key, command). `mend(mended)`: breaks the
    topology's code, or mends it, as the schedule says.
    """

    def __init__(
        self,
        topology: Topology,
        seed: int = 0,
        *,
        commands: Commands = lambda _: (),
        schedule: Schedule | None = None,
        mend: Mend = lambda mended: None,
    ) -> None:
        self.topology, self.seed, self._mend = topology, seed, mend
        self._oracle = known_oracle(topology)
        self.schedule = schedule or from_seed(seed, commands)

    def run(self, *, telling: bool = False) -> History:
        """Run the history; with `telling`, record its story."""
        return play(self._oracle, self.schedule, telling=telling, mend=self._mend)

    def explain(self) -> str:
        """Return the shortest failing schedule's story, findings and a test that repeats it; empty if none fails."""
        if not self.run().findings:
            return ""
        shortest = shrink(self.schedule, lambda schedule: bool(play(self._oracle, schedule, mend=self._mend).findings))
        history = play(self._oracle, shortest, telling=True, mend=self._mend)
        broken = "\n".join(f"  {finding}" for finding in history.findings)
        story = "\n".join(f"  {line}" for line in history.story)
        return (
            f"seed {self.seed}, made short:\n\n{story}\n\nwhat broke:\n{broken}\n\n"
            f"as a test:\n\n{regression_test(f'seed_{self.seed}', shortest)}"
        )

    def check(self) -> None:
        """Run the history. Raises AssertionError with its story if anything is wrong."""
        if text := self.explain():
            raise AssertionError(text)


def play(oracle: Oracle, schedule: Schedule, *, telling: bool = False, mend: Mend = lambda mended: None) -> History:
    """Run a schedule."""
    world = World(oracle, schedule, telling=telling, mend=mend)
    findings = world.run()
    story = [f"{at:8.3f}  {who:10} {what}".rstrip() for at, who, what in world.story]
    seconds = world.kafka.clock.now_s
    digest = fingerprint(world)
    return History(schedule, findings, world.steps, seconds, world.struck, world.points, digest, story)


def fingerprint(world: World) -> str:
    """Return a digest of every record with its time, and of the number of calls."""
    digest = hashlib.sha256(f"{world.steps} {world.kafka.clock.now_s:.6f} {world.findings}".encode())
    for name in sorted(world.kafka.topics):
        for log in world.kafka.topics[name].logs:
            for r in log.archive:
                digest.update(repr((name, r.offset(), r.key(), r.value(), r.timestamp(), r.decided)).encode())
    return digest.hexdigest()

"""The simulation finds the bugs that it is made for: each of these, planted into the engine, within 5,000 seeds."""

import pytest

from pipeline.testing import Simulation
from tests.simulation.worlds.planted import PLANTED, SEEDS, SEEDS_MAX, seed_that_finds
from tests.simulation.worlds.tills import TOPOLOGY, Code, commands


def fails(seed: int) -> bool:
    return bool(Simulation(TOPOLOGY, seed, commands=commands, mend=Code.mend).run().findings)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[name](monkeypatch)
    assert seed_that_finds(name, fails) < SEEDS_MAX


def test_without_them_the_same_seeds_are_clean() -> None:
    assert [seed for seed in set(SEEDS.values()) if fails(seed)] == []


def test_a_finding_is_made_short_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "changes_kept_after_an_abort"
    with monkeypatch.context() as patch:
        PLANTED[name](patch)
        seed = seed_that_finds(name, fails)
    simulation = Simulation(TOPOLOGY, seed, commands=commands, mend=Code.mend)
    whole = simulation.schedule
    with monkeypatch.context() as patch:
        PLANTED[name](patch)
        text = simulation.explain()
        with pytest.raises(AssertionError, match=f"seed {seed}, made short"):
            simulation.check()
        namespace = replayed(text)
        with pytest.raises(AssertionError):
            namespace[f"test_seed_{seed}"]()
    namespace[f"test_seed_{seed}"]()  # the test it prints passes once the bug is gone
    assert "what broke:" in text
    assert text.count("Sent(") < len(whole.commands)


def replayed(text: str) -> dict[str, object]:
    """The printed test, ready to be called."""
    from pipeline.testing.simulation import Fault, Schedule, Sent
    from tests.simulation.worlds import tills

    namespace = vars(tills) | {"Fault": Fault, "Schedule": Schedule, "Sent": Sent, "Simulation": Simulation}
    exec(text.partition("as a test:")[2], namespace)
    return namespace

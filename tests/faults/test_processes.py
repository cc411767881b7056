"""The short version of `make faults`, one half: workers that are killed, stopped and ended, answers that are lost."""

from pathlib import Path

import pytest

from tests.faults.harness.cluster import Cluster
from tests.faults.judging import SEED, judge
from tests.faults.kinds import broker_replies as answers
from tests.faults.kinds import processes
from tests.faults.round import running

pytestmark = pytest.mark.long


def test_workers_killed_stopped_and_ended(cluster: Cluster, tmp_path: Path) -> None:
    with running("processes", SEED, cluster, tmp_path / "round") as round_:
        processes.kills(round_, 1)
        processes.kills_at_points(round_, len(SHORT), SHORT)
        processes.zombies(round_, 1)
        processes.ends(round_, 1)
    judge(round_, 1 + len(SHORT) + 1 + 1)


SHORT = ("produced, not committed", "committed, not in RocksDB")


def test_rebalances_refusals_and_unknown_outcomes(cluster: Cluster, tmp_path: Path) -> None:
    with running("answers", SEED, cluster, tmp_path / "round") as round_:
        answers.aborts(round_, 5)
        answers.unknown_outcomes(round_, 1)
        processes.rebalances(round_, 1)
    judge(round_, 5 + 1 + 6)

"""The bank while its workers are killed; `python -m tests.faults.runs.bank` does so for longer."""

from pathlib import Path

import pytest

from tests.faults.harness.cluster import Cluster
from tests.faults.runs.bank import run

pytestmark = pytest.mark.long


def test_nothing_of_the_bank_is_lost_or_done_twice(cluster: Cluster, tmp_path: Path) -> None:
    kills, checked = run(cluster.bootstrap, tmp_path, 40.0, 20091201)
    assert kills
    assert checked["parked"], "nothing has raised"

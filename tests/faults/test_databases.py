"""The short version of `make faults`: tables in PostgreSQL, whose server is killed, and workers with it."""

from pathlib import Path

import pytest

from tests.faults.harness.cluster import Cluster
from tests.faults.judging import SEED, judge
from tests.faults.kinds import databases, processes
from tests.faults.round import running
from tests.helpers.postgres import Postgres

pytestmark = pytest.mark.long


def test_the_sql_server_and_workers_are_killed(cluster: Cluster, postgres: Postgres, tmp_path: Path) -> None:
    with running("databases", SEED, cluster, tmp_path / "round", postgres=postgres) as round_:
        databases.gone(round_, 2)
        processes.kills(round_, 2)
    judge(round_, 4)
    assert round_.result.reads > 0

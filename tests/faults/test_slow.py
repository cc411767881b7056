"""The short version of the slow kinds of `make faults`: nothing is broken, so nobody is given up."""

from pathlib import Path

import pytest

from tests.faults.harness.cluster import Cluster
from tests.faults.judging import SEED, judge
from tests.faults.kinds import slow
from tests.faults.round import Round, running

pytestmark = pytest.mark.long

SHORT_S = 15.0


def judge_slow(round_: Round, paces: int) -> None:
    judge(round_, paces)
    slowness = round_.result.slowness
    assert slowness is not None
    assert not slowness.broken, f"{slowness}\n{round_.result.notes}\nkept: {round_.home}"
    assert len(slowness.paces) == paces


def test_hogs_and_a_broker_that_stands_still(cluster: Cluster, tmp_path: Path) -> None:
    with running("slow", SEED, cluster, tmp_path / "round") as round_:
        slow.hogs(round_, 1, SHORT_S)
        slow.stopped_brokers(round_, 1)
    judge_slow(round_, 2)


def test_a_decide_of_3_ms(cluster: Cluster, tmp_path: Path) -> None:
    with running("slow decide", SEED, cluster, tmp_path / "round") as round_:
        slow.slow_decides(round_, 1)
    judge_slow(round_, 1)

"""The kinds of faults, and how many of each make a round."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.faults.kinds import broker_replies as answers
from tests.faults.kinds import databases, network, processes, slow, state
from tests.faults.round import Round


class Kind(NamedTuple):
    """How a round of it runs, with how many faults, on how many brokers, and through the proxies or not.

    `postgres`: reports has to have its tables there.
    """

    run: Callable[[Round, int], None]
    times: int
    brokers: int = 1
    proxied: bool = False
    postgres: bool = False


KINDS = {
    "SIGKILL at random": Kind(processes.kills, 24),
    "SIGKILL at named points": Kind(processes.kills_at_points, len(processes.POINTS)),
    "zombie": Kind(processes.zombies, 7),
    "rebalance 1-2-4-1": Kind(processes.rebalances, 2),
    "SIGTERM under load": Kind(processes.ends, 4),
    "transaction aborted": Kind(answers.aborts, 20),
    "outcome unknown, producer ended": Kind(answers.unknown_outcomes, 6),
    "state directory damaged": Kind(state.damages, len(state.DAMAGES)),
    "disk full": Kind(state.full_disk, 2),
    "SQL server killed": Kind(databases.gone, 4, postgres=True),
    "connection cut, held, answer lost": Kind(network.cuts, 6, proxied=True),
    "broker killed, paused": Kind(network.brokers, 9, brokers=3),
    "slow: CPU hogs": Kind(slow.hogs, 1),
    "slow: a tenth of a core": Kind(slow.tenth, 1),
    "slow: broker stopped": Kind(slow.stopped_brokers, len(slow.STOPPED_S)),
    "slow: disk kept busy": Kind(slow.busy_disk, 1),
    "slow: decide": Kind(slow.slow_decides, len(slow.DECIDES)),
}

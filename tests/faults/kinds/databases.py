"""Faults of the SQL database that some tables of reports are in."""

from __future__ import annotations

import time

from tests.faults.round import Round


def gone(round_: Round, times: int) -> None:
    """The server dies, and is away for a while."""
    steps = [(round(round_.rng.uniform(0.2, 2.0), 1), round(round_.rng.uniform(0.5, 4.0), 1)) for _ in range(times)]
    round_.schedule(steps)
    round_.begin("", "")
    server = round_.postgres
    assert server is not None
    for before_s, away_s in steps:
        round_.pass_time(before_s)
        logs = {worker.log: worker.log.stat().st_size for worker in round_.fleet.workers}
        server.stop()
        try:
            round_.pass_time(away_s)
            round_.fleet.until(
                "a worker notices",
                lambda logs=logs: any("does not answer" in log.read_text()[at:] for log, at in logs.items()),
            )
        finally:
            server.start()
        at = time.time()
        round_.injected(at)
        round_.fleet.until_all_run()

"""A coordinator that is away for longer than its askers wait: they ask again once it is back, and live."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.broker import local
from tests.helpers.support import until

ASKS = """
import sys, time
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.owners import Router
from pipeline.errors import TableUnavailable
from pipeline.topology import load

router = Router(admin(sys.argv[1]), load("topologies"))
while True:
    try:
        print("answered", router.workers("users"), flush=True)
    except TableUnavailable as error:
        print("unanswered", flush=True)
    router.forget_all()
    time.sleep(0.2)
"""
AWAY_S = 8.0  # several times what is waited for a reply


@pytest.mark.long
def test_a_client_lives_through_a_coordinator_that_comes_back(tmp_path: Path) -> None:
    home, log = tmp_path / "broker", tmp_path / "out"
    running = local.up(home, say=lambda _: None)
    port = int(running.bootstrap.rpartition(":")[2])

    def lines(word: str) -> int:
        return sum(line.startswith(word) for line in log.read_text().splitlines())

    with log.open("w") as out:
        client = subprocess.Popen([sys.executable, "-c", ASKS, running.bootstrap], stdout=out, stderr=subprocess.STDOUT)
    try:
        until("the coordinator answers", lambda: lines("answered") > 2)
        for _ in range(2):
            os.kill(running.pid, signal.SIGKILL)
            before = lines("unanswered")
            time.sleep(AWAY_S)
            until("a question was given up", lambda before=before: lines("unanswered") > before)
            running = local.up(home, port=port, say=lambda _: None)
            before = lines("answered")
            until(
                "it answers again",
                lambda before=before: client.poll() is not None or lines("answered") > before + 2,
                180,
            )
            assert client.poll() is None, log.read_text()[-1000:]
    finally:
        client.kill()
        client.wait()
        local.down(home)

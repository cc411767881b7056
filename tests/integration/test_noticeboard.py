"""The tests of examples/noticeboard, as its author runs them, on the tests' own Kafka."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "noticeboard"


def test_the_notice_boards_own_tests(kafka: str) -> None:
    env = {**os.environ, "PIPELINE_BOOTSTRAP": kafka}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=EXAMPLE, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr

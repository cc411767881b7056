"""The examples as their users have them: each in its own folder, by its own tests and its README's commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("bank", "telemetry", "tickets")


def run(example: str, *arguments: str) -> str:
    """Run Python in the example's folder; return its output."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=EXAMPLES / example, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_example_is_looked_at() -> None:
    assert sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()) == list(NAMES)
    for name in NAMES:
        assert f"({name})" in (EXAMPLES / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_its_own_tests_pass(name: str) -> None:
    said = run(name, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert re.search(r"\d+ passed in", said), said


IN_ONE_PROCESS = """
from click.testing import CliRunner
from pipeline.cli import main
for command in (["schemas", "generate", "--check"], ["schemas", "check"], ["docs", "graph"]):
    done = CliRunner().invoke(main, command)
    print(done.output)
    assert done.exit_code == 0, command
"""


@pytest.mark.parametrize("name", NAMES)
def test_its_schemas_and_its_picture_are_those_of_its_code(name: str) -> None:
    said = run(name, "-c", IN_ONE_PROCESS)
    assert "classes and schemas agree" in said
    drawn = said[said.index("flowchart LR") :].strip()
    assert f"```mermaid\n{drawn}\n```" in (EXAMPLES / name / "README.md").read_text()

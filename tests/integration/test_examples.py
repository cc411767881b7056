"""The examples as their users have them: each in its own folder, by its own tests and its README's commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.topology import load
from tests.helpers.support import Shop, until

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("bank", "telemetry", "tickets")


# Lines as they are typed, of which all Python is done in one process: each `pipeline` of its own takes a second. What
# goes on until it is interrupted is interrupted after some seconds. A line to be refused says so in its comment.
TYPED = """
import runpy, shlex, subprocess, sys
from click.testing import CliRunner
from pipeline.cli import main
for line in sys.argv[1:]:
    print("$", line, flush=True)
    program, *arguments = shlex.split(line, comments=True)
    if "live" in line or "-N" in arguments:
        done = subprocess.run(f"timeout -s INT 15 {line}", shell=True)
        assert done.returncode in (124, 0), (line, done)
    elif program == "pipeline":
        done = CliRunner().invoke(main, arguments)
        print(done.output)
        assert done.exit_code == ("# refused" in line), (line, done.exception)
    elif program == "python":
        sys.argv = arguments[1:]
        try:
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert not end.code, line
    else:
        subprocess.run(line, shell=True, check=True)
"""


def run(example: str, *arguments: str) -> str:
    """Run Python in the example's folder, with its environment's programs first; return its output."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command, folder = [sys.executable, *arguments], EXAMPLES / example
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_example_is_looked_at() -> None:
    found = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    assert found == sorted([*NAMES, "noticeboard"])
    for name in found:
        assert f"({name})" in (EXAMPLES / "README.md").read_text()


@pytest.mark.parametrize("name", ["", *NAMES])
def test_the_links_of_its_readme_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (EXAMPLES / name / "README.md").read_text())
    assert links
    for link in links:
        assert (EXAMPLES / name / link).exists(), link


@pytest.mark.parametrize("name", NAMES)
def test_its_own_tests_pass(name: str) -> None:
    said = run(name, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert re.search(r"\d+ passed in", said), said


@pytest.mark.parametrize("name", NAMES)
def test_its_schemas_and_its_picture_are_those_of_its_code(name: str) -> None:
    lines = "pipeline schemas generate --check", "pipeline schemas check", "pipeline docs graph"
    said = run(name, "-c", TYPED, *lines)
    assert "classes and schemas agree" in said
    drawn = said[said.index("flowchart LR") :].strip()
    assert f"```mermaid\n{drawn}\n```" in (EXAMPLES / name / "README.md").read_text()


@pytest.fixture
def on_kafka(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Shop]]:
    """An example on the tests' Kafka, which its commands find by the environment; no worker yet."""
    made: list[Shop] = []

    def make(name: str) -> Shop:
        monkeypatch.syspath_prepend(EXAMPLES / name)
        monkeypatch.setenv("PYTHONPATH", str(EXAMPLES / name))
        monkeypatch.setenv("PIPELINE_BOOTSTRAP", kafka)
        monkeypatch.setenv("PIPELINE_HOME", str(tmp_path))
        made.append(Shop(kafka, tmp_path, load(name)))
        return made[0]

    yield make
    for shop in made:
        shop.close()


def typed(name: str) -> list[list[str]]:
    """The commands of a README, by the blocks of its section on what to try, but for the one that starts it all."""
    section = (EXAMPLES / name / "README.md").read_text().partition("## Try it\n")[2].partition("\n## ")[0]
    blocks = [re.findall(r"^    (\S.*)$", block, re.MULTILINE) for block in re.split(r"\n\n(?=\S)", section)]
    return [block for block in blocks if block and not block[0].startswith("pipeline dev")]


@pytest.mark.long
def test_the_bank_on_kafka_by_the_commands_of_its_readme(on_kafka: Callable[[str], Shop]) -> None:
    bank = on_kafka("bank")
    (address,) = until("it serves", bank.worker().addresses)

    def settled(*transfers: str) -> bool:
        found = httpx.get(f"{address}/v1/sagas", params={"state": "done,undone"}, timeout=30).json()["sagas"]
        return {each["key"] for each in found} == set(transfers)

    def row(table: str, key: str) -> dict[str, str]:
        found: dict[str, str] = httpx.get(f"{address}/v1/tables/{table}/{key}", timeout=30).json()["row"]
        return found

    sending, looking, one_more = typed("bank")
    run("bank", "-c", TYPED, *sending)
    until("all transfers are over", lambda: settled("s1", "s2", "s3", "c1", "c2"))
    bank.settle()
    said = run("bank", "-c", TYPED, *(line.replace("localhost:6066", address) for line in looking))
    assert {key: row("accounts", key)["balance"] for key in ("anna", "bert", "cora")} == {
        "anna": "1950.01",
        "bert": "550.50",
        "cora": "99.99",
    }
    assert re.search(r"all +2,600\.50 +2,600\.50 .*  equal", said), said
    run("bank", "-c", TYPED, *one_more)
    until("that one is over, too", lambda: settled("s1", "s2", "s3", "c1", "c2", "c9"))
    bank.settle()
    assert row("accounts", "cora")["balance"] == "100.00"
    assert json.loads(run("bank", "-m", "pipeline", "verify", "--json"))["findings"] == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["telemetry", "tickets"])
def test_another_on_kafka_by_the_commands_of_its_readme(on_kafka: Callable[[str], Shop], name: str) -> None:
    example = on_kafka(name)
    (address,) = until("it serves", example.worker().addresses)
    for block in typed(name):
        run(name, "-c", TYPED, *(line.replace("localhost:6066", address) for line in block))
        example.settle()
    assert json.loads(run(name, "-m", "pipeline", "verify", "--json"))["findings"] == []

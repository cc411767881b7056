"""Bad input at the command line: one clear line, a cure, exit code 2, no traceback. None of this needs a broker."""

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import COMMANDS, main
from pipeline.demo.invoices import COLUMNS
from pipeline.worker.processes import without

NOBODY = "127.0.0.1:1"  # nothing listens there


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker is given up after half a second, not after ten."""
    monkeypatch.setattr("pipeline.adapters.kafka.cluster.ANSWER_S", 0.2)
    monkeypatch.setattr("pipeline.adapters.kafka.cluster.TRY_S", 0.3)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("command", [[], *[[name] for name in COMMANDS], ["broker", "up"], ["topics", "create"]])
def test_help_is_there(command: Sequence[str]) -> None:
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert "\\b" not in result.output, "a raw docstring, whose line breaks are lost"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["worker", "no_such_package", "--bootstrap", NOBODY], "no topology 'no_such_package' can be imported"),
        (["worker", "no/such.py", "--bootstrap", NOBODY], "no topology at no/such.py"),
        (["worker", "json", "--bootstrap", NOBODY], "json declares no service"),
        (
            ["worker", "topologies", "--service", "sales", "--bootstrap", NOBODY],
            "no service 'sales' in topologies; it has",
        ),
        (["worker", "topologies", "--bootstrap", NOBODY], f"no Kafka broker answers at {NOBODY}"),
        (["worker", "topologies", "--schemas", "nowhere", "--bootstrap", NOBODY], "no schema directory at nowhere"),
        (["topics", "create", "topologies", "--bootstrap", NOBODY], f"no Kafka broker answers at {NOBODY}"),
        (["query", "inventory", "85048", "--bootstrap", NOBODY], f"no Kafka broker answers at {NOBODY}"),
        (
            ["query", "inventory", "--home", "empty"],
            "no local broker runs in empty; start one with: pipeline broker up --home empty, or",
        ),
        (["verify", "topologies", "--bootstrap", NOBODY], f"no Kafka broker answers at {NOBODY}"),
        (["verify", "topologies", "--no-tables", "--bootstrap", NOBODY], f"no Kafka broker answers at {NOBODY}"),
        (["verify", "topologies", "--service", "sales", "--bootstrap", NOBODY], "no service 'sales' in topologies"),
        (["demo", "--input", "missing.csv"], "cannot read missing.csv: No such file or directory"),
        (["demo", "--input", "."], "cannot read .: Is a directory"),
        (["demo", "--input", "pyproject.toml"], "does not begin with the columns"),
        (["schemas", "register", "--schemas", "nowhere"], "no schema directory at nowhere"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_one_clear_line(arguments: list[str], says: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert says in lines[0]
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("impatient")
def test_an_unreachable_broker_is_told_by_the_demo(tmp_path: Path) -> None:
    source = tmp_path / "x.csv"
    source.write_text(",".join(COLUMNS) + "\n1,TEA,TEA,1,2009-12-01 07:45:00,1.5,17850,France\n")
    result = call("demo", "--input", str(source), "--bootstrap", NOBODY, "--home", str(tmp_path / "demo"))
    assert result.exit_code == 2
    assert f"no Kafka broker answers at {NOBODY}" in result.stderr
    assert not (tmp_path / "demo").exists()


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = call("broker", "up", "--home", str(tmp_path), "--port", str(port))
    assert result.exit_code == 2
    assert f"port {port} is in use; choose another with --port" in result.stderr


def test_a_broker_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert call("broker", "status", "--home", str(tmp_path)).exit_code == 1
    assert "not running" in call("broker", "down", "--home", str(tmp_path)).output


def test_a_service_of_ones_own_is_loaded_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "mine.py").write_text("from pipeline import Service\nservice = Service('mine')\n")
    result = call("schemas", "check", str(tmp_path / "mine.py"))
    assert result.exit_code == 0, result.output
    assert "mine: classes and schemas agree" in result.output


def test_two_services_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    for name in ("one", "two"):
        (tmp_path / "shop" / f"{name}.py").write_text("from pipeline import Service\nservice = Service('mine')\n")
    result = call("schemas", "check", f"{tmp_path}/shop")
    assert result.exit_code == 2
    assert "two modules" in result.stderr


def test_a_child_process_gets_the_same_command_line_less_the_number_of_processes() -> None:
    assert without(["worker", "shop", "--processes", "4", "--home", "x"], ["--processes"]) == [
        *("worker", "shop", "--home", "x")
    ]
    assert without(["worker", "shop", "--processes=4"], ["--processes"]) == ["worker", "shop"]
    arguments = ["worker", "--service", "a", "shop", "--service=b", "--port", "1"]
    assert without(arguments, ["--service", "--port"]) == ["worker", "shop"]

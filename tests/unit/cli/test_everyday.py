"""What every command has: JSON for machines where it shows something, and names that a shell completes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.cli.observe.groups import named
from pipeline.engine.ports import TP

# Commands without --json, and why.
WITHOUT = {
    **dict.fromkeys(("new", "schemas generate", "schemas codegen"), "makes files"),
    **{f"add {kind}": "makes files" for kind in ("aggregate", "projection", "reaction", "replica", "saga", "service")},
    **dict.fromkeys(("dev", "shell", "worker"), "runs until it is ended"),
    **dict.fromkeys(
        ("broker up", "broker down", "projection switch", "projection drop-old", "token revoke"),
        "acts; exit code says it",
    ),
    **dict.fromkeys(("docs asyncapi", "docs graph", "saga diagram", "completion"), "prints a document of its own form"),
}


def leaves(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in command.list_commands(context):
            below = command.get_command(context, inner)
            assert below is not None
            yield from leaves(below, f"{name} {inner}".strip())
    else:
        yield name, command


def test_each_command_that_shows_something_has_json() -> None:
    found = dict(leaves(main))
    without = {name for name, command in found.items() if not any("--json" in p.opts for p in command.params)}
    assert without - WITHOUT.keys() == set()
    assert WITHOUT.keys() - found.keys() == set()


def test_the_status_of_the_local_broker_is_json_too(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["broker", "status", "--json", "--home", str(tmp_path)])
    told = json.loads(result.output)
    assert (result.exit_code, told["runs"], told["bootstrap"]) == (1, False, None)


def completed(*words: str) -> list[str]:
    shell = ShellComplete(main, {}, "pipeline", "_PIPELINE_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_names_of_the_topology_are_completed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "groups" in completed("gr")
    assert completed("history", "inv") == ["inventory"]
    assert completed("tail", "orders.e") == ["orders.event"]
    assert completed("tail", "--topology", "topologies", "orders.e") == ["orders.event"]
    assert completed("groups", "--service", "rep") == ["reports"]
    assert completed("query", "rev") == ["revenue"]
    assert completed("saga", "show", "checkout_s") == ["checkout_saga"]
    assert completed("pause", "us") == ["users"]
    monkeypatch.setenv("PIPELINE_TOPOLOGY", "topologies.users")
    assert completed("pause", "") == ["users"]
    monkeypatch.delenv("PIPELINE_TOPOLOGY")
    file = tmp_path / "pipeline.toml"
    file.write_text('topology = "topologies.inventory"\n')
    monkeypatch.chdir(tmp_path)
    assert completed("pause", "") == ["inventory"]
    file.write_text("no TOML at all")
    assert completed("pause", "") == []  # nothing on the line that is typed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_PIPELINE_COMPLETE=" in result.output
    assert result.output.count("\n") > 8


def test_partitions_are_named_in_short() -> None:
    tps = [TP("a", n) for n in (0, 1, 2, 4, 6, 7)] + [TP("b", 3)]
    assert named(tps) == "a/0-2,4,6-7, b/3"

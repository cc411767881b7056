"""Defaults: an option comes before the environment, that before pipeline.toml, that before what is built in."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pipeline.broker import local
from pipeline.cli import COMMANDS, demo, main
from pipeline.cli.data import query
from pipeline.cli.defaults import KINDS
from pipeline.demo.worker import environment

SERVICE = "from pipeline import Service\nservice = Service({!r})\n"
VARIABLES = ("TOPOLOGY", "SCHEMAS", "BOOTSTRAP", "HOME", "CONFIG", "CLIENT_CONFIG", "REGISTRY", "TOKEN")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a topology `own`, whose working directory is `project/deep/below`."""
    project = tmp_path / "project"
    below = project / "deep" / "below"
    below.mkdir(parents=True)
    (project / "own.py").write_text(SERVICE.format("mine"))
    for folder in (project, below):
        (folder / "schemas").mkdir()
    monkeypatch.chdir(below)
    monkeypatch.setattr("sys.path", [*sys.path])
    for name in VARIABLES:
        monkeypatch.setenv(f"PIPELINE_{name}", "")  # also taken back afterwards, if a command sets it
        monkeypatch.delenv(f"PIPELINE_{name}")
    return project


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def shown(*arguments: str) -> dict[str, tuple[str | None, str, str | None]]:
    result = call(*arguments, "config", "--json")
    assert result.exit_code == 0, result.output
    rows = map(json.loads, result.stdout.splitlines())
    return {row["setting"]: (row["value"], row["source"], row["at"]) for row in rows}


def test_without_a_file_all_is_as_built_in() -> None:
    assert shown() == {
        "topology": ("topologies", "default", None),
        "schemas": (None, "default", None),
        "bootstrap": (None, "default", None),
        "home": (".pipeline", "default", None),
        "client-config": (None, "default", None),
        "registry": (None, "default", None),
        "token": (None, "default", None),
    }
    table = call("config").stdout
    assert "schemas/ beside the topology" in table
    assert "There is no pipeline.toml" in table


def test_the_address_of_a_local_broker_that_runs_is_told_to_machines_and_people(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = {Path(".pipeline/broker"): local.Running(1, "127.0.0.1:9"), Path("other/broker"): None}
    monkeypatch.setattr(local, "find", running.get)
    assert shown()["bootstrap"] == ("127.0.0.1:9", "default", None)
    assert "127.0.0.1:9, the local broker of .pipeline" in call("config").stdout
    monkeypatch.setenv("PIPELINE_HOME", "other")
    assert shown()["bootstrap"] == (None, "default", None)
    monkeypatch.setenv("PIPELINE_BOOTSTRAP", "a:1")
    monkeypatch.setenv("PIPELINE_HOME", ".pipeline")
    assert shown()["bootstrap"][0] == "a:1"


def test_a_file_above_gives_values_and_its_paths_are_relative_to_it(place: Path) -> None:
    (place / "client.properties").write_text("client.id=x\n")
    (place / "pipeline.toml").write_text(
        'topology = "own"\nschemas = "avro"\nbootstrap = "a:1,b:2"\nhome = "~/x"\nclient-config = "client.properties"\n'
        'registry = "http://a:1,https://b/ccompat/v7"\ntoken = "@token"\n'
    )
    file = str(place / "pipeline.toml")
    assert shown() == {
        "topology": ("own", "file", file),
        "schemas": (str(place / "avro"), "file", file),
        "bootstrap": ("a:1,b:2", "file", file),
        "home": (str(Path.home() / "x"), "file", file),
        "client-config": (str(place / "client.properties"), "file", file),
        "registry": ("http://a:1,https://b/ccompat/v7", "file", file),
        "token": (f"@{place / 'token'}", "file", file),
    }
    assert os.environ["PIPELINE_TOKEN"] == f"@{place / 'token'}"
    assert os.environ["PIPELINE_CLIENT_CONFIG"] == str(place / "client.properties")
    assert os.environ["PIPELINE_REGISTRY"] == "http://a:1,https://b/ccompat/v7"


def test_a_token_is_named_by_the_file_and_never_shown(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "pipeline.toml").write_text('token = "$SHOP_TOKEN"\n')
    assert shown()["token"] == ("$SHOP_TOKEN", "file", str(place / "pipeline.toml"))
    assert "PIPELINE_TOKEN" not in os.environ, "the variable is not set"
    monkeypatch.setenv("SHOP_TOKEN", "secret-of-the-shop")
    assert shown()["token"][0] == "$SHOP_TOKEN"
    assert os.environ["PIPELINE_TOKEN"] == "secret-of-the-shop"
    monkeypatch.setenv("PIPELINE_TOKEN", "another-secret")
    assert shown()["token"] == ("(not shown)", "environment", "PIPELINE_TOKEN")
    (place / "pipeline.toml").write_text('token = "secret-in-the-file"\n')
    refused = call("config")
    assert (refused.exit_code, "secret-in-the-file" in refused.output) == (2, False)
    assert "token: give $NAME for a variable that has the token, or @FILE" in refused.output


def test_each_source_goes_before_the_next(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "pipeline.toml").write_text('home = "from_file"\n')
    assert shown()["home"][1:] == ("file", str(place / "pipeline.toml"))
    monkeypatch.setenv("PIPELINE_HOME", "from_environment")
    assert shown()["home"] == ("from_environment", "environment", "PIPELINE_HOME")
    result = call("config", "--json", "--home", "from_option")
    assert {"setting": "home", "value": "from_option", "source": "option", "at": "--home"} in map(
        json.loads, result.stdout.splitlines()
    )


@pytest.mark.parametrize("name", ["TOPOLOGY", "SCHEMAS", "BOOTSTRAP", "HOME"])
def test_each_variable_is_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"PIPELINE_{name}", "value:1" if name == "BOOTSTRAP" else "value")
    assert shown()[name.lower()][1:] == ("environment", f"PIPELINE_{name}")


def test_the_nearest_file_alone_is_read(place: Path) -> None:
    (place / "pipeline.toml").write_text('home = "far"\nbootstrap = "far:1"\n')
    (place / "deep" / "pipeline.toml").write_text('home = "near"\n')
    found = shown()
    assert found["home"][0] == str(place / "deep" / "near")
    assert found["bootstrap"][1] == "default"


def test_pyproject_has_a_table_of_it(place: Path) -> None:
    (place / "pyproject.toml").write_text('[project]\nname = "pipeline-of-mine"\n[tool.pipeline]\ntopology = "own"\n')
    (place / "deep" / "pyproject.toml").write_text('[project]\nname = "no-pipeline"\n')
    (place / "deep" / "below" / "pyproject.toml").write_text("another tool's, broken: pipeline\n")
    assert shown()["topology"] == ("own", "file", str(place / "pyproject.toml"))
    (place / "pipeline.toml").write_text('topology = "mine"\n')
    assert shown()["topology"] == ("mine", "file", str(place / "pipeline.toml"))


def test_a_file_can_be_named_or_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "pipeline.toml").write_text('home = "found"\n')
    (place / "other.toml").write_text('home = "named"\n')
    assert shown("--config", str(place / "other.toml"))["home"][0] == str(place / "named")
    monkeypatch.setenv("PIPELINE_CONFIG", os.devnull)
    assert shown()["home"] == (".pipeline", "default", None)
    assert call("--config", "nowhere.toml", "config").exit_code == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'topolgy = "own"\n', "there is no key 'topolgy'; use topology, "),
        (b'[pipeline]\ntopology = "own"\n', "there is no key 'pipeline'; use topology, "),
        (b"topology = 7\n", "topology is not text; write it in quotes"),
        (b'bootstrap = ["a:1"]\n', "bootstrap is not text; write it in quotes"),
        (b'home = ""\n', "home: it is empty"),
        (b'topology = ""\n', "topology: it is empty"),
        (b'bootstrap = "http://a:1"\n', "bootstrap: 'http://a:1' is no address of a broker; give host:port"),
        (b'home = "own.py"\n', "home: Directory "),
        (b'client-config = "nowhere"\n', "client-config: File "),
        (b'registry = "a:1"\n', "registry: 'a:1' is no URL of a schema registry; give one such as http://"),
        (b'registry = "http://me:word@a"\n', "registry: it has credentials, which every list of processes would show"),
        (b'schemas = "a\\u0000b"\n', "schemas: "),
        (b"topology = own\n", "is not TOML: "),
        (b"home = 'a'\nhome = 'b'\n", "is not TOML: "),
        (b"home = '\xff'\n", "is not TOML: "),
        (b"x = " + b"[" * 20_000, "is not TOML: "),
        (b"x = " + b"1" * 5_000, "is not TOML: "),
    ],
)
@pytest.mark.parametrize("name", ["pipeline.toml", "pyproject.toml"])
def test_a_slip_in_the_file_is_one_line_with_file_and_key(place: Path, text: bytes, says: str, name: str) -> None:
    if name == "pyproject.toml":
        text = b"[tool.pipeline]\n" + text.replace(b"[pipeline]", b"[tool.pipeline.pipeline]")
    (place / name).write_bytes(text)
    for arguments in (["config"], ["query", "stock"], ["broker", "status"], ["schemas", "register"]):
        result = call(*arguments)
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"error: {place / name}")
        assert says in line
    assert call("query", "--help").exit_code == 0  # helps also then
    assert call("--help").exit_code == 0


def test_a_file_that_cannot_be_read_is_one_line(place: Path) -> None:
    file = place / "pipeline.toml"
    file.write_text("")
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user reads all files")
    result = call("config")
    assert result.exit_code == 2
    assert result.stderr == f"error: {file}: Permission denied; name another place, or see to the rights there\n"


def test_a_byte_order_mark_does_not_matter(place: Path) -> None:
    (place / "pipeline.toml").write_bytes(b'\xef\xbb\xbftopology = "own"\r\n')
    assert shown()["topology"][0] == "own"


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for inner in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), inner)
            assert found is not None
            yield from commands(found, f"{name} {inner}".strip())
    else:
        yield name, command


def test_every_command_takes_them_and_its_help_says_so() -> None:
    taking = 0
    for name, command in commands(main, ""):
        variables = {str(param.envvar) for param in command.params}
        names = {param.name for param in command.params if param.name in {"topology", "schemas", "bootstrap", "home"}}
        if name == "demo":
            continue
        assert {f"PIPELINE_{each.upper()}" for each in names} <= variables, name
        if "topology" in names:
            assert "schemas" in names, name  # a topology is nothing without its schemas
        if names:
            taking += 1
            assert "pipeline config" in " ".join(call(*name.split(), "--help").stdout.split()), name
    assert taking > len(COMMANDS)


@pytest.mark.parametrize("written", ["own", "own.py", "./own.py"])
def test_the_topology_is_found_beside_the_file_and_not_here(place: Path, written: str) -> None:
    (place / "deep" / "below" / "own.py").write_text(SERVICE.format("another"))
    (place / "pipeline.toml").write_text(f'topology = "{written}"\n')
    assert call("schemas", "check").stdout == "mine: classes and schemas agree\n"


def test_cures_name_the_topology_so_that_it_is_found_from_here(place: Path) -> None:
    (place / "pipeline.toml").write_text('topology = "own"\n')
    assert call("schemas", "check", "own").stdout == "mine: classes and schemas agree\n"


def test_one_that_is_named_here_is_the_one_here(place: Path) -> None:
    (place / "pipeline.toml").write_text('topology = "other"\n')
    (place / "deep" / "below" / "own.py").write_text(SERVICE.format("another"))
    assert call("schemas", "check", "own").stdout == "another: classes and schemas agree\n"


def test_a_topology_that_is_not_there_names_what_named_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "pipeline.toml").write_text('topology = "nowhere"\n')
    assert f"({place / 'pipeline.toml'} names it)" in call("schemas", "check").stderr
    monkeypatch.setenv("PIPELINE_TOPOLOGY", "gone")
    assert "(PIPELINE_TOPOLOGY names it)" in call("schemas", "check").stderr
    assert "names it" not in call("schemas", "check", "none").stderr


def test_one_that_nothing_names_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    (option,) = [each for each in query.command.params if each.name == "topology"]
    monkeypatch.setattr(option, "default", "absent")  # here the usual one is there
    missing = call("query", "stock", "--bootstrap", "127.0.0.1:1")
    assert "no topology 'absent' can be imported from here" in missing.stderr
    assert "name it with --topology, PIPELINE_TOPOLOGY or in pipeline.toml" in missing.stderr
    assert "--topology" not in call("query", "stock", "--topology", "gone", "--bootstrap", "127.0.0.1:1").stderr
    assert 'have pipeline.toml say it: topology = "…"' in call("schemas", "check").stderr


def test_the_schemas_of_the_file_are_not_those_of_another_topology(place: Path) -> None:
    (place / "pipeline.toml").write_text('topology = "own"\nschemas = "nowhere"\nbootstrap = "127.0.0.1:1"\n')
    topology = "pipeline.demo.topologies"
    assert "inventory: classes and schemas agree" in call("schemas", "check", topology).stdout
    refused = call("schemas", "check", topology, "--schemas", "nowhere")
    assert refused.exit_code == 2


def test_a_bad_value_of_the_environment_names_it_by_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_BOOTSTRAP", "http://x")
    assert "'--bootstrap' (env var: 'PIPELINE_BOOTSTRAP')" in call("query", "stock").stderr


def test_the_demo_goes_its_own_way(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "pipeline.toml").write_text("broken")
    monkeypatch.setenv("PIPELINE_SCHEMAS", "own")
    assert call("demo", "--stop").stdout == "nothing was running\n"
    assert call("--config", str(place / "pipeline.toml"), "demo").exit_code == 2
    assert environment()["PIPELINE_CONFIG"] == os.devnull
    assert "PIPELINE_SCHEMAS" not in environment()
    assert demo._ours(with_client_config=False) == f"env -u PIPELINE_SCHEMAS PIPELINE_CONFIG={os.devnull} "
    (place / "pipeline.toml").unlink()
    monkeypatch.delenv("PIPELINE_SCHEMAS")
    assert demo._ours(with_client_config=False) == ""


def test_every_key_is_in_the_docs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    for key in KINDS:
        assert f"\n{key} = " in page
        assert f"PIPELINE_{key.upper().replace('-', '_')}" in page

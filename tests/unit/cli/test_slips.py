"""Slips of the hand at the command line: each is answered with one line that says what and where, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.cli import COMMANDS, main
from pipeline.cli.options import user
from pipeline.cli.values import Bootstrap
from pipeline.errors import PipelineError
from pipeline.worker.databases import parse_databases, without_tables

REPOSITORY = Path(__file__).parents[3]
SERVICE = "from pipeline import Service\nservice = Service('mine')\n"
SHOP = str(REPOSITORY / "topologies")
NOBODY = ("--bootstrap", "127.0.0.1:1")
NOT_UTF8 = os.fsdecode(b"a\xff")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of files that nobody would want."""
    monkeypatch.setattr("pipeline.adapters.kafka.cluster.ANSWER_S", 0.2)
    monkeypatch.setattr("pipeline.adapters.kafka.cluster.TRY_S", 0.3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    return tmp_path


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def refused(*arguments: str) -> str:
    """The line that says what is wrong: of this program, or of click after its lines on usage."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 or lines[0].startswith("Usage:"), lines
    return lines[-1]


NO_DEFAULT = b"from dataclasses import dataclass\n@dataclass\nclass A:\n    a: int = 0\n    b: int\n"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (b"def f(:\n", "SyntaxError: "),
        (b"\n\nx = 1 / 0\n", "ZeroDivisionError: division by zero, at {file} line 3"),
        (NO_DEFAULT, "follows default argument, at {file} line 2"),
        (b"import no_such_thing\n", "No module named 'no_such_thing', at {file} line 1"),
        (b"from pipeline import NoSuchThing\n", "cannot import name 'NoSuchThing'"),
        (b"from pipeline import Service\nservice = Service()\n", "line 2"),
        (b"from pipeline import Service\nservice = Service('No Name')\n", "error: "),
        (b"import sys\nsys.exit(0)\n", "SystemExit: 0, at {file} line 2"),
        (b"x = '\xe9'\n", "SyntaxError: "),
        (b"x = 1\0\n", "SyntaxError: "),
        (b"\tx\n  y\n", "IndentationError: "),
        (b"def f(): f()\nf()\n", "RecursionError: "),
        (b"raise Exception('\x1b[2J\\n')\n", "Exception: "),
        (b"service = 7\n", "service is int, not a pipeline.Service"),
        (b"", "declares no service"),
    ],
)
@pytest.mark.parametrize("called", ["{}/own.py", "./own.py", "own.py", "own", "."])
def test_a_module_that_cannot_be_loaded_is_told_with_its_place(
    place: Path, source: bytes, says: str, called: str
) -> None:
    (place / "own.py").write_bytes(source)
    told = refused("schemas", "check", called.format(place))
    assert says.format(file=place / "own.py") in told or (called == "./own.py" and says.partition(",")[0] in told)
    assert "\x1b" not in told


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".x",
        "..",
        "a..b",
        "a.",
        "1",
        "a b",
        "~",
        "-",
        "/",
        "no/such",
        "own.txt",
        "./own.txt",
        "x" * 300,
        "./" + "x" * 300,
        *["sys", "json", "./loop", "./loop/x.py", "file/x", NOT_UTF8, "a\nb", "\x1b[2J", "os.path", "./empty", "empty"],
    ],
)
def test_what_is_no_topology_is_told(place: Path, name: str) -> None:
    (place / "own.txt").write_text("x")
    (place / "file").write_text("x")
    (place / "loop").symlink_to(place / "loop")
    (place / "empty").mkdir()
    for arguments in (("schemas", "check", name), ("query", "t", "k", "--topology", name, *NOBODY)):
        told = refused(*arguments)
        assert told.lower().startswith("error: ")
        assert "\x1b" not in told


def test_a_directory_needs_no_init_file_and_can_be_the_current_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "shop").mkdir()
    (place / "schemas").mkdir()
    (place / "shop" / "own.py").write_text(SERVICE)
    for name in ("shop", "./shop", f"{place}/shop/"):
        assert "mine: classes" in call("schemas", "check", name).stdout
    monkeypatch.chdir(place / "shop")
    assert "mine: classes" in call("schemas", "check", ".").stdout


def test_a_current_directory_that_is_gone_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "gone").mkdir()
    monkeypatch.chdir(place / "gone")
    (place / "gone").rmdir()
    try:
        assert refused("schemas", "check", "own").startswith("error: ")
    finally:
        monkeypatch.chdir(place)


@pytest.mark.parametrize("file", ["manifest.json", "users.command.avsc"])
@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"{",
        b"[]",
        b"7",
        b'"x"',
        b"[" * 100_000,
        b'{"type": "record"}',
        b'{"type": "record", "name": 7, "fields": 7}',
        b"null",
        None,
    ],
)
def test_a_schema_directory_that_is_broken_is_told(place: Path, file: str, content: bytes | None) -> None:
    (place / "s").mkdir()
    (place / "s" / file).mkdir() if content is None else (place / "s" / file).write_bytes(content)
    for arguments in (("schemas", "register", "--schemas", "s"), ("schemas", "check", SHOP, "--schemas", "s")):
        result = call(*arguments)
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "address",
    [
        "",
        ",",
        "a b:1",
        ":9092",
        "h:0",
        "h:99999",
        "h:abc",
        "h:1,,",
        "http://h:1",
        "h:1/x",
        "[::1",
        "\x1b[2J:1",
        "h:1 h:2",
        NOT_UTF8,
    ],
)
def test_what_is_no_address_of_a_broker_is_told(address: str) -> None:
    assert "--bootstrap" in refused("query", "t", "k", "--bootstrap", address)


@pytest.mark.parametrize(
    "address", ["h", "h:1", "h:1,i:2", "h:1, i:2", "[::1]:9092", "SSL://h:1", "sasl_ssl://h:1", "1.2.3.4:5"]
)
def test_what_librdkafka_takes_is_an_address(address: str) -> None:
    assert Bootstrap().convert(address, None, None) == address


@pytest.mark.parametrize("home", ["", "file", "file/x", "loop", "loop/x", "/dev/null", "/proc/none/x", "x" * 300])
def test_a_home_that_cannot_be_one_is_told(place: Path, home: str) -> None:
    (place / "file").write_text("x")
    (place / "loop").symlink_to(place / "loop")
    for arguments in (("broker", "up"), ("demo",), ("worker", SHOP, *NOBODY)):
        assert call(*arguments, "--home", home).exit_code == 2
    for arguments in (("broker", "down"), ("broker", "status"), ("demo", "--stop"), ("query", "t", "k")):
        assert call(*arguments, "--home", home).exit_code in (0, 1, 2)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"pid": 1, "bootstrap": 7}', '{"pid": "a", "bootstrap": "x:y"}', "\0"]
)
def test_what_another_program_left_in_a_home_is_no_broker(place: Path, content: str) -> None:
    from pipeline.broker.local import _last_run

    (place / "broker").mkdir()
    (place / "broker" / "broker.json").write_text(content)
    assert call("broker", "status", "--home", str(place)).exit_code == 1
    assert _last_run(place / "broker") is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("query", "inventory", "a", "--limit", "3"), "--limit and KEY do not go together"),
        (("query", "inventory", "a", "--prefix", "b"), "--prefix and KEY do not go together"),
        (("query", "inventory", "--watch"), "--watch needs KEY"),
        (("query", "inventory", "a", "--watch", "--at-least", "x"), "--at-least and --watch do not go together"),
        (("query", "inventory", "a", "--since", "x"), "--since needs --watch"),
        (("query", "inventory", "--index", "=b"), "--index takes NAME=VALUE"),
        (("query", "inventory", "a", "--eventual", "--consistency", "fresh"), "do not go together"),
        (("query", "inventory", "a", "--max-age", "3"), "--max-age needs --eventual"),
        (("query", "inventory", "a", "--wait", "nan"), "not a number of seconds"),
        (("query", "inventory", "a", "--wait", "1e300"), "not in the range"),
        (("query", "inventory", ""), "'[KEY]': it is empty"),
        (("query", "inventory", NOT_UTF8), "is not UTF-8"),
        (("history", "inventory", NOT_UTF8), "is not UTF-8"),
        (("history", "inventory", "a", "--as-of", "3", "--diff", "1", "2"), "--as-of or --diff, not both"),
        (("saga", "retry", "s", "k", "--why", ""), "'--why': it is empty"),
        (("saga", "retry", "s", "k", "--why", "x", "--timeout", "inf"), "not in the range"),
        (("parked", "redrive", "--why", "x"), "or give --all"),
        (("parked", "redrive", "--why", "x", "--all", "--key", "a"), "or give --all"),
        (("topics", "acls", SHOP, "--apply", "--json"), "--apply and --json do not go together"),
        (("topics", "acls", SHOP, "--principal", "orders=User:"), "not of the form"),
        (("topics", "acls", SHOP, "--requester", "a b=User:x"), "cannot name a requester"),
        (("worker", SHOP, "--database", "sales=sqlite:///x"), "service 'sales' is not in"),
        (("worker", SHOP, "--database", "users=sqlite:///x"), "service 'users' keeps no tables in a database"),
        (("worker", SHOP, "--database", "reports=sqlite:///x", "--database", "reports=sqlite:///y"), "two databases"),
        (("worker", SHOP, "--service", ""), "'--service': it is empty"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: tuple[str, ...], says: str) -> None:
    told = refused(*arguments, *(() if arguments[:2] == ("topics", "acls") and "--apply" not in arguments else NOBODY))
    assert says in told


def test_options_of_the_demo_that_do_nothing_are_refused() -> None:
    assert "--keep and --stop do not go together" in refused("demo", "--stop", "--keep")
    assert "--fresh needs --bootstrap" in refused("demo", "--fresh")


def test_a_database_in_the_environment_may_be_for_another_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_DATABASE", "sales=sqlite:///x")
    assert "no Kafka broker answers" in call("worker", SHOP, *NOBODY).stderr
    assert parse_databases(["a=b"]) == {"a": "b"}


def test_a_service_with_tables_in_a_database_is_found() -> None:
    from pipeline.topology import load

    shop = load(SHOP)
    assert without_tables(["reports"], shop) is None
    assert without_tables([], shop) is None


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: {}["no name"])
    assert user() == f"uid {os.getuid()}"


# --- the standard streams ---------------------------------------------------------------------------------------------


def shell(script: str) -> subprocess.CompletedProcess[str]:
    """What a shell says of a script in which "$@" is `pipeline schemas check own.py`."""
    words = [sys.executable, "-m", "pipeline", "schemas", "check", "own.py"]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, env=env, check=False)


@pytest.mark.parametrize(
    ("script", "code", "says"),
    [
        ('"$@" >&-', 1, "error: standard output cannot be written: Bad file descriptor\n"),
        ('"$@" > /dev/full', 1, "error: standard output cannot be written: No space left on device\n"),
        ('"$@" <&-', 0, ""),
        ('"$@" >&- 2>&-', 1, ""),
        ('set -o pipefail; "$@" | true', 1, ""),
    ],
)
def test_a_stream_that_cannot_be_written_is_told_in_a_line(place: Path, script: str, code: int, says: str) -> None:
    (place / "own.py").write_text(f"import signal\nsignal.alarm(60)\n{SERVICE}" + "import time\ntime.sleep(0.3)\n")
    (place / "schemas").mkdir()
    done = shell(script)
    assert (done.returncode, done.stderr) == (code, says)


def test_a_stream_that_is_closed_leaves_its_number_to_no_other(place: Path) -> None:
    (place / "schemas").mkdir()
    (place / "own.py").write_text("import os\nfd = os.open('x', os.O_CREAT)\nassert fd > 2, fd\n" + SERVICE)
    assert shell('"$@" <&-').returncode == 0


def test_a_terminal_that_lacks_a_letter_gets_an_escape(place: Path) -> None:
    (place / "schemas").mkdir()
    (place / "own.py").write_text("print('Zo\\u00eb \\u4f60')\n" + SERVICE)
    done = shell('PYTHONIOENCODING=ascii "$@"')
    assert done.returncode == 0, done.stderr
    assert "Zo\\xeb \\u4f60" in done.stdout


# --- any options ------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["", " ", "a", ".", "..", "/dev/null", "-", "0", "-1", "9" * 30, "nan", "inf", "1e300", "=", "a=b", "{", "[]"]
)
TEXTS = WORDS | st.text(st.characters(exclude_characters="\0"), max_size=8) | st.just(NOT_UTF8) | st.just("\x1b[2J")
SAFE = [name for name in COMMANDS if name not in ("demo", "broker")]  # these make folders and processes


def leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path, command


LEAVES = [
    leaf
    for name in SAFE
    for leaf in leaves(main.get_command(click.Context(main), name), (name,))  # type: ignore[arg-type]
]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    path, command = draw(st.sampled_from(LEAVES))
    options = [param for param in command.params if isinstance(param, click.Option) and "--bootstrap" not in param.opts]
    words = list(path)
    for option in draw(st.lists(st.sampled_from(options), max_size=3)) if options else ():
        words.append(draw(st.sampled_from(option.opts)))
        words += [] if option.is_flag else [draw(TEXTS) for _ in range(option.nargs)]
    known = st.sampled_from([SHOP, "inventory", "users", "reports", "85048", "checkout_saga", "RegisterProduct", "{}"])
    return [*words, *draw(st.lists(known | TEXTS, max_size=4))]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(command_lines())
def test_no_options_give_a_traceback(words: list[str]) -> None:
    with suppress(PipelineError):
        call(*words, *(NOBODY if not {"schemas", "diagram", "acls"} & {*words[:2]} else ()))


def test_the_alarm_of_these_tests_is_off() -> None:
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0

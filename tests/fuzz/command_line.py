"""Random options and arguments for every command of `pipeline`: what a hand may slip to, in any combination."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner
from hypothesis import strategies as st

from pipeline.cli import main

ROOT = Path(__file__).parents[2]
ENDLESS = {("demo",), ("broker", "up")}  # they start processes
CODES = (0, 1, 2)
HANG_S = 90
NOBODY = "127.0.0.1:1"
SIMPLE = """
    topologies tests.bank.services users accounts transfers orders statements anna customers
    RegisterUser Deposit BeginTransfer
    no_such . .. a/b %2e [bold] 😀 - -- -x 0 -1 1 7 1.5 nan inf 1e400 ²
    999999999999999999999999999999 2009-12-01T10:00:00Z 2009-12-31 9999-12-31T23:59:59Z
    90s 15m 0s -5m 99999999999999999999d
    a=b = a= orders.command/3@1234 orders.command/x@y host:1 [::1]:2 {} [] { null {"amount":NaN} {"a":"\\ud800"}
    files/commands.jsonl files/drawn files/latin1 files/empty files loop /dev/null
    sqlite:///x.sqlite statements=sqlite:///x statements=postgresql://nobody@127.0.0.1:1/x statements=% x=://
"""
WORDS = (
    *SIMPLE.split(),
    f"{ROOT}/topologies",
    "",
    " ",
    "a\nb",
    "\x1b[2J",
    "\udcff",
    "x" * 600,
    "[" * 2_000,
    '{"name": "Anna"}',
)
LINES = (
    b'{"aggregate": "users", "key": "a", "type": "ChangeName", "fields": {"name": "b"}}',
    b'{"aggregate": "accounts", "key": "a", "type": "Deposit", "fields": {"amount": 5}, "id": "", "at": "never"}',
    *(
        b"{",
        b"[]",
        b"",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"null",
        b'{"key": "\\ud800"}',
        b"\0",
        b'{"aggregate": 7}',
        b"[" * 2_000,
    ),
)
SETTINGS = (
    *("topology = 7", 'topology = "no_such"', 'topology = "tests.bank.services"', 'schemas = "nowhere"', "home = []"),
    *("[tool.pipeline]", 'bootstrap = "x y"', "no_such = 1", "=", "[[", 'home = "\\u0000"', "client = {a = 1}"),
)
GROUP = tuple[str, ...]


def commands(group: click.Group, path: GROUP = ()) -> Iterator[tuple[GROUP, click.Command]]:
    """All that can be called, with their paths."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))
        elif (*path, name) not in ENDLESS:
            yield (*path, name), found


CALLABLE = dict(commands(main))
TEXTS = st.sampled_from(WORDS) | st.text(st.characters(exclude_characters="\0"), max_size=6).filter(
    lambda t: not t.startswith("/")
)


def values(param: click.Parameter) -> st.SearchStrategy[str]:
    """What may be given for it: what fits more often than not."""
    if isinstance(param.type, click.Choice):
        return st.sampled_from([str(each) for each in param.type.choices]) | TEXTS
    if isinstance(param.type, click.types.IntParamType | click.types.FloatParamType):
        return st.integers(-2, 30).map(str) | TEXTS
    return TEXTS


class Call(NamedTuple):
    """The words of a command line, the lines of a file that it may name, and those of pipeline.toml."""

    words: list[str]
    lines: list[bytes]
    settings: list[str]


@st.composite
def calls(draw: st.DrawFn) -> Call:
    path = draw(st.sampled_from(sorted(CALLABLE)))
    options: list[list[str]] = []
    arguments: list[str] = []
    for param in CALLABLE[path].params:
        if isinstance(param, click.Argument):
            for _ in range(draw(st.integers(0, 3)) if param.nargs == -1 else int(draw(st.floats(0, 1)) < 0.9)):
                arguments.append(draw(values(param)))
        elif isinstance(param, click.Option) and draw(st.floats(0, 1)) < (0.6 if param.required else 0.2):
            for _ in range(draw(st.integers(1, 2)) if param.multiple else 1):
                name = draw(st.sampled_from([*param.opts, *param.secondary_opts]))
                given = [] if param.is_flag or param.count else [draw(values(param)) for _ in range(param.nargs)]
                options.append(
                    [f"{name}={given[0]}"]
                    if len(given) == 1 and draw(st.booleans()) and name.startswith("--")
                    else [name, *given]
                )
    if draw(st.floats(0, 1)) < 0.05:
        options.append([draw(st.sampled_from(("--no-such", "-h", "--version", "-")))])
    parts = [*options, *([each] for each in arguments)]
    words = [*path, *(word for part in draw(st.permutations(parts)) for word in part)]
    lines = draw(st.lists(st.sampled_from(LINES) | st.binary(max_size=9), max_size=4))
    return Call(words, lines, draw(st.lists(st.sampled_from(SETTINGS), max_size=2)) if draw(st.booleans()) else [])


def safe(words: list[str], bootstrap: str = NOBODY) -> list[str]:
    """The words, on that cluster, and in a home that is nobody's. A worker has no cluster."""
    command = CALLABLE[next(path for path in CALLABLE if tuple(words[: len(path)]) == path)]
    names = {param.name for param in command.params}
    at_end = words.index("--") if "--" in words else len(words)
    cluster = NOBODY if words[0] == "worker" else bootstrap
    more = ["--bootstrap", cluster] * ("bootstrap" in names) + ["--home", "home"] * ("home" in names)
    return [*words[:at_end], *more, *words[at_end:]]


@contextmanager
def bounded(what: object) -> Iterator[None]:
    """Fail where it takes longer than HANG_S."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {HANG_S} s: {what}")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def place(home: Path) -> Iterator[None]:
    """A directory with files that commands may be given, where those that reach nobody say so at once."""
    (home / "files").mkdir()
    (home / "files" / "commands.jsonl").write_bytes(LINES[0])
    (home / "files" / "latin1").write_bytes(b'{"aggregate": "\xe9"}')
    (home / "files" / "empty").write_text("")
    (home / "loop").symlink_to(home / "loop")
    there = os.getcwd()
    os.chdir(home)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipeline.adapters.kafka.cluster.ANSWER_S", 0.2)
            patch.setattr("pipeline.adapters.kafka.cluster.TRY_S", 0.3)
            patch.syspath_prepend(str(ROOT))
            yield
    finally:
        os.chdir(there)


def check(call: Call, bootstrap: str = NOBODY) -> None:
    """It ends, with one of the exit codes that there are, and without a traceback or what moves a cursor."""
    words = safe(call.words, bootstrap)
    Path("files/drawn").write_bytes(b"\n".join(call.lines))
    Path("pipeline.toml").write_text("\n".join(call.settings))
    with bounded(words):
        result = CliRunner().invoke(main, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), (words, repr(result.exception))
    assert result.exit_code in CODES, (words, result.exit_code)
    assert "Traceback" not in result.output, (words, result.output)
    assert "\x1b" not in result.stderr, (words, result.stderr)
    if result.exit_code == 2:
        assert result.stderr.strip(), words

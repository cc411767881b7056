"""What users have written is shown as it is: no markup, nothing that a terminal obeys, no field in another's place."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.cli import main
from pipeline.cli.shown import json_text, say_fields, say_rows
from pipeline.client.wire.plain import plain, plain_json
from pipeline.errors import UnknownKey
from pipeline.verify.report import Finding
from pipeline.verify.show import line
from pipeline.worker.logs import log_to_stderr

HOSTILE = "[/x] [bold]b[/bold] [red] :smile: \x1b[2J\x1b]0;owned\x07 \x9b31m \r\n \u202e \ud800"
ESCAPED = "[/x] [bold]b[/bold] [red] :smile: \\x1b[2J\\x1b]0;owned\\x07 \\x9b31m \\r\\n \\u202e \\ud800"
NOBODY = "127.0.0.1:1"


def obeyed(text: str) -> list[str]:
    """The characters of an output that a terminal would obey, but for line breaks."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c != "\n"]


def event(version: int) -> dict[str, Any]:
    caused = {"version": version, "time_ms": 1000, "command_id": HOSTILE, "correlation_id": HOSTILE}
    return {**caused, "event": {"type": "Renamed", "name": HOSTILE}}


class Answers:
    """A query client whose answers hold hostile text everywhere."""

    rows: list[dict[str, Any]]

    def __init__(self, *_: object, **__: object) -> None: ...
    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None: ...
    def get(self, table: str, key: str, **_: object) -> dict[str, Any]:
        return self.rows[0]

    def scan(self, *_: object, **__: object) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def watch(self, *_: object, **__: object) -> Iterator[dict[str, Any]]:
        return iter([{"key": HOSTILE, "row": {"name": HOSTILE}, "position": "a/1@2"}, {**self.rows[0], "row": None}])

    def history(self, *_: object) -> Iterator[dict[str, Any]]:
        return iter([event(3), event(4)])

    def state_as_of(self, aggregate: str, key: str, as_of: object) -> dict[str, Any]:
        row = {"name": f"{HOSTILE}{as_of}", HOSTILE: as_of}
        return {"aggregate": aggregate, "key": HOSTILE, "row": row, "version": 3, "time_ms": 5}

    def deadlines(self, *_: object) -> list[dict[str, Any]]:
        command = {"type": "Close", "why": HOSTILE}
        return [{"kind": "deadline", "name": HOSTILE, "due_ms": 10**15 * n, "command": command} for n in (1, 10**6)]

    def sagas(self, *_: object) -> list[dict[str, Any]]:
        return [self.saga("", "")]

    def saga(self, *_: object) -> dict[str, Any]:
        texts = dict.fromkeys(("saga", "key", "status", "step", "reason", "since"), HOSTILE)
        return {**texts, "attempt": 2, "waits_for": [HOSTILE], "blocks": [], "state": {}}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> type[Answers]:
    monkeypatch.setattr("pipeline.client.queries.QueryClient", Answers)
    Answers.rows = [{"key": HOSTILE, "row": {"name": HOSTILE, HOSTILE: 1}, "version": 3, "position": "a/1@2"}] * 2
    return Answers


def shown(*arguments: str, columns: int = 400) -> str:
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(main, [*arguments, "--bootstrap", NOBODY])
    assert result.exception is None, result.output
    return result.output


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize("columns", [20, 80, 1000])
@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "users", "anna"),
        ("query", "users"),
        ("query", "users", "anna", "--watch"),
        ("history", "users", "anna"),
        ("history", "users", "anna", "--as-of", "3"),
        ("history", "users", "anna", "--diff", "3", "4"),
        ("deadlines", "users", "anna"),
        ("saga", "list", "checkout_saga"),
        ("saga", "show", "checkout_saga", "anna"),
        ("2pc", "list"),
    ],
)
def test_text_of_users_is_shown_as_it_is(arguments: tuple[str, ...], columns: int) -> None:
    output = shown(*arguments, columns=columns)
    assert obeyed(output) == []
    if arguments[-1] != "--watch":  # that shows the row as JSON
        assert "[/x]" in output
        assert "[bold]b[/bold] [red] :smile: \\x1b[2J" in output.replace('\\"', '"').replace("\\u001b", "\\x1b")
    as_json = shown(*arguments, "--json")
    assert obeyed(as_json) == []
    assert any(HOSTILE in text for each in as_json.splitlines() for text in walk(json.loads(each)))


def walk(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("key", ["anna", None])
def test_a_rows_own_key_version_and_position_are_its_own(answers: type[Answers], key: str | None) -> None:
    own = {"key": "own key", "version": "own version", "position": "own position", "pending": "own", "age_s": "old"}
    answers.rows = [{"key": "k1", "row": own, "version": 7, "age_s": 0.5, "pending": {"a": 1}, "position": "t/0@9"}]
    output = shown("query", "users", *([key] if key else []))
    for text in [*own.values(), "k1", "7", "0.5", '{"a": 1}', "t/0@9"]:
        assert text in output, text


def test_rows_that_differ_in_their_fields_are_shown(answers: type[Answers]) -> None:
    answers.rows = [{"key": "a", "row": {"x": 1}}, {"key": "b", "row": {"y": None}}, {"key": "c", "row": [1, 2]}]
    output = shown("query", "users")
    assert all(word in output for word in ("x", "y", "null", "[1, 2]"))


def test_at_80_columns_no_name_and_no_value_is_cut_off(answers: type[Answers]) -> None:
    fields = {
        f"a_field_with_a_long_name_{n}": f"and a value {n} that does not fit beside all the others" for n in range(9)
    }
    answers.rows = [{"key": "85048", "row": fields, "version": 3}] * 3
    for arguments in (("query", "users", "85048"), ("query", "users")):
        output = shown(*arguments, columns=80)
        for name, value in fields.items():
            assert any(name in line and value in line for line in output.splitlines())
        assert "85048" in output
    assert shown("query", "users", columns=80).count("and a value 8") == 3


def test_an_error_names_a_key_without_obeying_it(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def refused(*_: object, **__: object) -> Iterator[None]:
        raise UnknownKey(f"no row {HOSTILE} in users")
        yield

    monkeypatch.setattr("pipeline.client.queries.QueryClient", refused)
    result = CliRunner().invoke(main, ["query", "users", "anna", "--bootstrap", NOBODY])
    assert result.exit_code == 2
    assert result.stderr == f"error: no row {ESCAPED} in users\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "users", "anna", HOSTILE),
        ("query", "users", "anna", f"--{HOSTILE}"),
        ("query", "users", "anna", "--consistency", HOSTILE),
        ("query", "users", "--limit", HOSTILE),
        ("send", "users", "anna", "ChangeName", "{}", "--file", HOSTILE.encode("utf-8", "surrogatepass").hex()),
        ("history", HOSTILE, "anna"),
        ("verify", HOSTILE),
        ("broker", "up", "--home", "/dev/null/" + HOSTILE),
        ("demo", "--input", "/dev/null/" + HOSTILE),
        ("saga", HOSTILE),
    ],
)
def test_a_usage_error_quotes_without_obeying(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*arguments])
    assert result.exit_code == 2
    assert obeyed(result.output) == []


def test_a_log_line_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.root.handlers[:]
    try:
        log_to_stderr("INFO")
        logging.getLogger("x").warning("key %s", "\x1b[2J\x9b")
    finally:
        logging.root.handlers[:] = before
    assert "key \\x1b[2J\\x9b\n" in capsys.readouterr().err


def test_a_finding_of_verify_is_text() -> None:
    finding = Finding("wrong_row", "users", "users.state", 0, "k", 5, HOSTILE, HOSTILE)
    console = Console(width=500, force_terminal=False)
    with console.capture() as captured:
        console.print(line(finding), soft_wrap=True)
    assert captured.get().count("[/x] [bold]b[/bold] [red] :smile: \\x1b[2J") == 2
    assert obeyed(captured.get()) == []


@given(st.text())
def test_plain_text_has_nothing_to_obey_and_letters_stay(text: str) -> None:
    assert obeyed(plain(text)) == []
    assert plain("".join(c for c in text if c.isprintable())) == "".join(c for c in text if c.isprintable())


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_means_what_it_meant(value: Any) -> None:
    assert json.loads(json_text(value)) == value
    assert obeyed(json_text(value)) == []
    assert json.loads(plain_json(json.dumps("\ud83d", ensure_ascii=False))) == "\ud83d"


def test_emoji_of_several_characters_stay_whole() -> None:
    assert plain("👩‍👩‍👧 क्‍ष Zoë") == "👩‍👩‍👧 क्‍ष Zoë"


@given(st.lists(st.dictionaries(st.text(), st.text() | st.floats() | st.none()), min_size=1), st.integers(1, 200))
def test_any_rows_can_be_shown(rows: list[dict[str, Any]], columns: int) -> None:
    runner = CliRunner(env={"COLUMNS": str(columns)})
    with runner.isolation() as (out, *_):
        say_rows(rows)
        say_fields(rows[0])
        assert obeyed(out.getvalue().decode()) == []

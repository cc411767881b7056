"""Log lines: a form that machines read, no secrets, no storms, and levels that an operator can trust."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from pipeline.adapters import client_config
from pipeline.adapters.kafka import away
from pipeline.engine import told
from pipeline.engine.ports import TP
from pipeline.errors import TransactionAborted
from pipeline.worker.databases import passwords_of
from pipeline.worker.logs import hide, log_to_stderr, redaction
from pipeline.worker.logs.lines import FIELDS, JsonLines, TextLines
from pipeline.worker.logs.storms import PLACE_MAX, SAME_MAX, WINDOW_S, BoundedStream

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "logs.md"
TEXT, NUMBER = {"type": "string", "minLength": 1}, {"type": "integer"}
SCHEMA = {
    "type": "object",
    "required": ["time", "level", "logger", "message", "pid"],
    "additionalProperties": False,
    "properties": {
        "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
        "level": {"enum": ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]},
        "logger": TEXT,
        "message": {"type": "string"},
        "pid": NUMBER,
        "event": {"type": "string", "pattern": "^[a-z_]+$"},
        "service": TEXT,
        "topic": TEXT,
        "partition": NUMBER,
        "offset": NUMBER,
        "key": TEXT,
        "worker": NUMBER,
        "correlation_id": TEXT,
        "command_id": TEXT,
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "span_id": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
        "left_out": NUMBER,
        "error": TEXT,
        "traceback": TEXT,
    },
}
LINE = jsonschema_rs.validator_for(SCHEMA)
log = logging.getLogger("tests.logs")


class Captured:
    """A logger's lines, with a clock of their own."""

    def __init__(self, form: logging.Formatter) -> None:
        self.now_s = 0.0
        self._out = io.StringIO()
        self.handler = BoundedStream(self._out, lambda: self.now_s)
        self.handler.setFormatter(form)

    @property
    def lines(self) -> list[str]:
        return self._out.getvalue().splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def as_json() -> Iterator[Captured]:
    yield from captured(JsonLines())


@pytest.fixture
def as_text() -> Iterator[Captured]:
    yield from captured(TextLines())


def captured(form: logging.Formatter) -> Iterator[Captured]:
    made, loggers = Captured(form), [logging.getLogger(), log]
    levels = [each.level for each in loggers]
    log.propagate = False  # pytest's own handlers would take a second for a storm
    for each in loggers:
        each.addHandler(made.handler)
        each.setLevel(logging.DEBUG)
    try:
        yield made
    finally:
        made.handler.close()
        log.propagate = True
        for each, level in zip(loggers, levels, strict=True):
            each.removeHandler(made.handler)
            each.setLevel(level)


# --- the form --------------------------------------------------------------------------------------------------------


def test_each_line_fits_the_schema(as_json: Captured) -> None:
    told.assignment("orders", "assigned", [TP("orders.command", 0), TP("orders.command", 2)])
    told.starts_over("orders", TransactionAborted("fenced"), 1)
    log.warning("parks %s", "anna\x1b[2J\u2028", extra={"event": "parked", "offset": 7, "key": "anna\n"})
    try:
        raise ValueError("a\nb")
    except ValueError:
        log.exception("raised", extra={"correlation_id": "c", "command_id": "d", "trace_id": "0" * 32})
    objects = as_json.objects
    assert len(objects) == len(as_json.lines) == 4
    for each in objects:
        LINE.validate(each)
    assert objects[0]["event"] == "assigned"
    assert objects[0]["message"] == "orders: assigned orders.command 0 2"
    assert objects[2]["key"] == "anna\n"
    assert objects[3]["error"] == "ValueError"
    half = logging.makeLogRecord({"msg": "parks %s", "args": ("\ud83d",), "levelname": "WARNING", "name": "n"})
    LINE.validate(json.loads(JsonLines().format(half).encode()))  # half a pair is no text that can be written
    assert "raise ValueError" in objects[3]["traceback"]
    assert objects[3]["correlation_id"] == "c"


def test_arguments_that_do_not_fit_lose_no_line() -> None:
    line = JsonLines().format(logging.LogRecord("x", logging.ERROR, "x.py", 1, "%d", ("no number",), None))
    LINE.validate(json.loads(line))
    assert "no number" in line


def test_the_schema_says_what_lines_can_have() -> None:
    assert set(FIELDS) < set(SCHEMA["properties"])  # type: ignore[arg-type]
    assert not LINE.is_valid({"time": "12:00", "level": "INFO", "logger": "x", "message": "", "pid": 1})


def test_text_lines_have_the_ids_at_their_end(as_text: Captured) -> None:
    log.warning("parks", extra={"correlation_id": "c-1", "command_id": "d", "service": "orders"})
    (line,) = as_text.lines
    assert line.endswith("WARNING parks [correlation_id=c-1 command_id=d]")


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", set())


@pytest.mark.usefixtures("known")
def test_no_line_has_a_secret(as_json: Captured) -> None:
    hide("s3cr3t-of-a-file", *passwords_of(["postgresql://me:p%40ss-word@host/db", "sqlite:///x"]))
    log.error("cannot connect to %s", "postgresql://other:hunter22@host:5432/db")
    log.error('sasl.password=hunter22 refused; password: \'hunter22\'; {"api_key": "hunter22"}')
    log.error("Authorization: Bearer hunter22.hunter22")
    log.error("the file says s3cr3t-of-a-file", extra={"key": "s3cr3t-of-a-file"})
    try:
        raise ConnectionError("FATAL: p@ss-word and p%40ss-word refused, postgresql://a:hunter22@b")
    except ConnectionError:
        log.exception("database")
    said = "\n".join(as_json.lines)
    assert len(as_json.objects) == 5
    for secret in ("hunter22", "s3cr3t", "ss-word"):
        assert secret not in said
    assert "postgresql://other:***@host:5432/db" in said


def test_the_secrets_of_the_client_configuration_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "client.properties"
    file.write_text(
        "sasl.password = hunter22\nsasl.username = me\nschema.registry.basic.auth.user.info = you:hunter33\n"
    )
    monkeypatch.setenv(client_config.VARIABLE, str(file))
    assert set(client_config.secrets_of_settings()) == {"hunter22", "you:hunter33", "hunter33"}


def test_ordinary_words_stay(as_text: Captured) -> None:
    log.info("%s now holds the secret of unique values; every worker elsewhere needs the same file", "/home/secret")
    log.info("a position token: orders.command/3@17")
    assert as_text.lines[0].endswith("/home/secret now holds the secret of unique values; every worker elsewhere "
                                     "needs the same file")  # fmt: skip


# --- storms ----------------------------------------------------------------------------------------------------------


def test_a_storm_of_one_error_is_a_few_lines_and_a_count(as_json: Captured) -> None:
    for n in range(2_000):
        log.error("offset %d: the broker refuses it", n)
    assert len(as_json.lines) == SAME_MAX
    as_json.now_s = WINDOW_S
    as_json.handler._storms.look()
    *_, last = as_json.objects
    assert len(as_json.lines) == SAME_MAX + 1
    assert last["left_out"] == 2_000 - SAME_MAX - 1
    assert last["message"].endswith(f"(and {2_000 - SAME_MAX - 1:d} more like it, left out)")
    LINE.validate(last)


def test_a_storm_that_says_something_else_each_time_is_bounded(as_json: Captured) -> None:
    for n in range(2_000):
        log.error("the key %s is none", "".join(chr(ord("a") + int(digit)) for digit in str(n)))
    as_json.handler.close()
    assert len(as_json.lines) == PLACE_MAX + 1
    assert as_json.objects[-1]["left_out"] == 2_000 - PLACE_MAX - 1


def test_what_was_left_out_is_told_although_nothing_else_is_logged(
    as_json: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.worker.logs.storms.LOOK_S", 0.01)
    for n in range(100):
        log.error("offset %d", n)
    as_json.now_s = WINDOW_S + 1
    from tests.helpers.support import until

    until("it is told", lambda: any("left_out" in each for each in as_json.objects))
    until("the thread has ended", lambda: not as_json.handler._looking)


def test_other_lines_go_on_in_a_storm(as_json: Captured) -> None:
    for n in range(500):
        log.error("offset %d", n)
        if n == 250:
            log.error("something else")
    assert "something else" in [each["message"] for each in as_json.objects]


# --- levels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "level"),
    [
        (
            "GETPID [x#producer-1] [thrd:main]: Failed to acquire transactional PID from broker b: busy: retrying",
            "INFO",
        ),
        (
            "OFFSET [x#consumer-1] unable to OffsetCommit in state up: coordinator is unavailable: retrying later",
            "INFO",
        ),
        ("SESSTMOUT [x#consumer-2] session timed out", "WARNING"),
        ("FATAL [x#consumer-3] Fatal error: static consumer fenced", "WARNING"),  # another takes its place
        (
            "GETPID [x#producer-2] [thrd:main]: Failed to acquire idempotence PID from broker b: not authorized",
            "WARNING",
        ),
    ],
)
def test_what_the_client_tries_again_is_no_warning(as_json: Captured, text: str, level: str) -> None:
    away._repeated._told.clear()
    away.kafka_log.log(logging.CRITICAL if text.startswith("FATAL") else logging.WARNING, text)
    (line,) = as_json.objects
    LINE.validate(line)
    assert (line["level"], line["logger"]) == (level, "pipeline.kafka")


def test_a_rebalance_is_no_warning_and_a_loss_is(as_json: Captured) -> None:
    for event in ("assigned", "revoked", "lost"):
        told.assignment("orders", event, [TP("orders.command", 0)])
    for times in (1, 2, 3):
        told.starts_over("orders", TransactionAborted("refused"), times)
    assert [each["level"] for each in as_json.objects] == ["INFO", "INFO", "WARNING", "INFO", "INFO", "WARNING"]


def test_log_to_stderr_takes_the_form(capsys: pytest.CaptureFixture[str]) -> None:
    before, level = logging.root.handlers[:], logging.root.level
    try:
        log_to_stderr("WARNING", "json")
        log.info("not this")
        log.warning("this")
        logging.getLogger("mode").info("[^Worker]: nor that")
    finally:
        logging.root.handlers[:] = before
        logging.root.setLevel(level)
    LINE.validate(json.loads(capsys.readouterr().err))


def test_every_event_stands_on_the_page() -> None:
    import re

    source = "\n".join(path.read_text() for path in (PAGE.parents[2] / "pipeline").glob("**/*.py"))
    events = set(re.findall(r'"event": "([a-z_]+)"', source)) | set(
        re.findall(r'told\.assignment\([^)]*"([a-z]+)"', source)
    )
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE.read_text(), re.MULTILINE))
    assert {"assigned", "serving", "parked", "kafka_away"} <= events <= listed
    assert listed - events <= set(FIELDS) | set(SCHEMA["properties"])  # type: ignore[arg-type]


def test_what_ends_a_command_is_a_line_of_the_same_form_and_storms_are_told_of_at_its_end() -> None:
    code = (
        "import logging, sys; from pipeline.worker.logs import log_to_stderr; from pipeline import cli; "
        "from pipeline.errors import BadInput; log_to_stderr('INFO', 'json'); "
        "[logging.getLogger('x').error('offset %d', n) for n in range(100)]; "
        "cli.main.invoke = lambda ctx: cli._say_failed('no topics') or sys.exit(2); sys.argv = ['pipeline', 'config']; "
        "cli.run()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    *lines, last = map(json.loads, done.stderr.splitlines())
    for each in (*lines, last):
        LINE.validate(each)
    assert done.returncode == 2
    assert (lines[-1]["event"], lines[-1]["message"]) == ("failed", "no topics")
    assert last["left_out"] == 100 - SAME_MAX - 1

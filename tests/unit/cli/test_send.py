"""`pipeline send`: what is checked before the first command is sent, what exit code 2 means, an outcome's one shape."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import main
from pipeline.cli.data import send
from pipeline.client import Accepted
from pipeline.client.commands import RECORD_BYTES_MAX, RECORD_ROOM, Commands
from pipeline.errors import BrokerUnreachable, InvalidCommand, NoReply
from pipeline.model import Rejected, Token
from pipeline.topology import Topology

AT = ("--bootstrap", "127.0.0.1:1")
FIELDS = '{"name": "Zoë"}'
HOSTILE = "\x1b[2J[/x]"


class Asked:
    """What a client gives for a command that was sent."""

    def __init__(self, command_id: str, result: Any) -> None:
        self.id, self._result = command_id, result

    def result(self, timeout_s: float) -> Any:
        Cluster.waited.append(timeout_s)
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


class Cluster:
    """A client that checks commands as the real one does; the test says what becomes of those that are sent."""

    sent: list[dict[str, Any]]
    refused: dict[int, Exception]  # by the number of the command
    failed: dict[str, Exception]  # by the step
    outcome: Any
    waited: list[float]
    topics: set[str]

    def __init__(self, _: str, topology: Topology, __: str) -> None:
        self.commands = Commands(topology)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._step("close")

    def _step(self, name: str) -> None:
        if name in self.failed:
            raise self.failed[name]

    def listen(self) -> None:
        self._step("listen")

    def flush(self) -> None:
        self._step("flush")

    def send(self, **line: Any) -> str:
        return self.ask(**line).id

    def ask(self, **line: Any) -> Asked:
        if len(self.sent) in self.refused:
            raise self.refused[len(self.sent)]
        self.sent.append(line)
        return Asked(line["command_id"], self.outcome)


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> type[Cluster]:
    Cluster.sent, Cluster.refused, Cluster.failed, Cluster.waited = [], {}, {}, []
    Cluster.outcome = Accepted(3, (), Token("users.command/1@2"))
    Cluster.topics = {"users.command"}
    monkeypatch.setattr("pipeline.client.Client", Cluster)
    monkeypatch.setattr("pipeline.adapters.kafka.admin", lambda _: None)
    monkeypatch.setattr("pipeline.adapters.kafka.topics.topic_names", lambda _: Cluster.topics)
    return Cluster


def call(*arguments: str, data: bytes | None = None) -> Result:
    result = CliRunner().invoke(main, ["send", *arguments, *AT], input=data)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def line(key: str = "anna", name: str = "Zoë", **more: Any) -> str:
    told = {"aggregate": "users", "key": key, "type": "ChangeName", "fields": {"name": name}, **more}
    return json.dumps(told, ensure_ascii=False)


def refused(data: bytes) -> str:
    result = call("--file", "-", data=data)
    assert result.exit_code == 2, result.output
    assert Cluster.sent == []
    (told,) = result.stderr.splitlines()
    assert told.endswith("; nothing was sent")
    return told


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + line().encode() + b"\n",
        line().encode() + b"\r\n\r\n" + line("bert").encode() + b"\r\n",
        line().encode() + b"\r" + line("bert").encode(),
        b"\n \n" + line(name="a\u2028b\x85c").encode(),
    ],
)
def test_what_editors_write_is_taken(data: bytes) -> None:
    result = call("--file", "-", data=data)
    assert result.exit_code == 0, result.output
    assert len(Cluster.sent) == data.count(b"aggregate")


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n\n"])
def test_a_file_without_commands_is_sent_at_once(data: bytes) -> None:
    assert call("--file", "-", "--wait", data=data).exit_code == 0


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_other_encodings_are_refused_with_the_cure(encoding: str) -> None:
    told = refused(("\ufeff" + line() + "\n").encode(encoding))
    assert "UTF-16" in told or "UTF-32" in told
    assert "save the file as UTF-8" in told
    assert "save the file as UTF-8" in refused((line() + "\n").encode(encoding))


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp437"])
def test_a_line_that_is_not_utf8_is_named(encoding: str) -> None:
    data = b"\n".join([line(name="Ann").encode()] * 499 + [line(name="Zoë").encode(encoding)])
    assert "line 500 is not UTF-8: byte " in refused(data)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (line(name="x" * 2_000_000), "split it"),
        (line(pad=1), "it has no 'pad'"),
        (line(fields={"name": "a", "pad": 1}), "has no field 'pad'"),
        (line(fields={}), "lacks the field 'name'"),
        (line(fields=None), "must be an object"),
        (line(id=""), "the id '' is not text"),
        (line(id=0), "the id 0 is not text"),
        (line(id="x" * 257), "257 bytes"),
        (line(key=""), "the key has 0 bytes"),
        (line(key=7), "the key must be text"),
        (line(key="KEY").replace("KEY", "\\ud800"), "which UTF-8 cannot hold"),
        (line(expect=-1), "expect must be a whole number"),
        (line(expect="3"), "expect must be a whole number"),
        (line(expect=True), "expect must be a whole number"),
        (line(expect=2**63), "expect must be a whole number"),
        (line(issued_ms=1.5), "issued_ms must be a whole number"),
        (line(at="soon"), "'soon' is neither"),
        (line(at=-1), "not a valid time"),
        (line(at=[]), "not a valid time"),
        (line(aggregate="user"), "no aggregate 'user'"),
        (line(aggregate=None), "no aggregate None"),
        (line(type="Rename"), "takes no command 'Rename'"),
        ("[]", "a command needs aggregate, key and type"),
        ("nonsense", "not JSON"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("[" * 100_000, "not JSON"),
        ("9" * 5_000, "not JSON"),
    ],
)
def test_all_lines_are_checked_before_the_first_is_sent(bad: str, says: str) -> None:
    told = refused(f"{line()}\n\n{bad}\n{line()}\n".encode("utf-8", "surrogatepass"))
    assert "error: line 3: " in told
    assert says in told


def test_a_command_may_be_as_large_as_a_record_less_the_room_for_a_reply() -> None:
    most = RECORD_BYTES_MAX - RECORD_ROOM
    assert call("--file", "-", data=line(name="x" * (most - 200)).encode()).exit_code == 0
    assert call("--file", "-", data=line(name="x" * most).encode()).exit_code == 2


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path("/proc/self/mem")):
        result = call("--file", str(path))
        assert result.exit_code == 2
        assert "Traceback" not in result.output


def test_exit_code_2_says_that_nothing_was_sent() -> None:
    Cluster.failed = {"listen": BrokerUnreachable("it is away")}
    for arguments in (("--file", "-"), ("users", "anna", "ChangeName", FIELDS)):
        result = call(*arguments, "--wait", data=line().encode())
        assert (result.exit_code, Cluster.sent) == (2, [])
    Cluster.failed, Cluster.refused = {}, {0: BrokerUnreachable("it is away")}
    assert call("--file", "-", data=line().encode()).exit_code == 2


@pytest.mark.parametrize("wait", ["--wait", "--no-wait"])
def test_a_topic_that_is_missing_is_told_before_anything_is_sent(wait: str) -> None:
    Cluster.topics = set()
    for arguments in (("--file", "-"), ("users", "anna", "ChangeName", FIELDS)):
        result = call(*arguments, wait, data=line().encode())
        assert (result.exit_code, Cluster.sent) == (2, [])
        assert "create it with: pipeline topics create topologies" in result.stderr


@pytest.mark.parametrize("wait", ["--wait", "--no-wait"])
@pytest.mark.parametrize("step", ["flush", "close", "third"])
def test_what_fails_after_the_first_command_is_not_exit_code_2(step: str, wait: str) -> None:
    Cluster.failed = {step: BrokerUnreachable("it is away")}
    Cluster.refused = {2: InvalidCommand("too large")} if step == "third" else {}
    result = call("--file", "-", wait, data="\n".join([line()] * 3).encode())
    assert result.exit_code == 1
    assert f"{len(Cluster.sent)} of 3 commands were sent" in result.stderr
    if step != "third":
        assert call("users", "anna", "ChangeName", FIELDS, wait).exit_code == 1


OUTCOMES: list[tuple[Any, dict[str, Any]]] = [
    (
        Accepted(3, (), Token("users.command/1@2")),
        {"outcome": "accepted", "version": 3, "events": [], "position": "users.command/1@2", "complete": True},
    ),
    (Rejected("taken", {"by": HOSTILE}), {"outcome": "rejected", "reason": "taken", "details": {"by": HOSTILE}}),
    (
        NoReply("no reply", "x", 5, Token("users.command/1@2"), HOSTILE),
        {
            "outcome": "unknown",
            "cause": "no reply",
            "position": "users.command/1@2",
            "parked": HOSTILE,
            "issued_ms": 5,
            "held": None,
        },
    ),
]


@pytest.mark.parametrize(("outcome", "told"), OUTCOMES)
def test_an_outcome_has_one_shape(outcome: Any, told: dict[str, Any]) -> None:
    Cluster.outcome = outcome
    one = call("users", "anna", "ChangeName", FIELDS, "--id", "x", "--json")
    many = call("--file", "-", "--wait", "--json", data=line(id="x").encode())
    assert json.loads(one.stdout) == json.loads(many.stdout) == {"command_id": "x", **told}
    assert one.exit_code == many.exit_code == (told["outcome"] != "accepted")
    for plain in (call("users", "anna", "ChangeName", FIELDS), call("--file", "-", "--wait", data=line().encode())):
        assert "\x1b" not in plain.stdout


def test_what_is_stored_has_that_shape_too() -> None:
    for arguments in (("users", "anna", "ChangeName", FIELDS, "--id", "x", "--no-wait"), ("--file", "-")):
        result = call(*arguments, "--json", data=line(id="x").encode())
        assert json.loads(result.stdout) == {"command_id": "x", "outcome": "stored"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("users", "anna", "ChangeName", FIELDS, "--id", ""), "'--id': it is empty"),
        (("users", "", "ChangeName", FIELDS), "'[KEY]': it is empty"),
        (("users", os.fsdecode(b"a\xff"), "ChangeName", FIELDS), "is not UTF-8"),
        (
            ("users", "anna", "ChangeName", FIELDS, "--at", "2030-01-01", "--after", "1h"),
            "only one of --at and --after",
        ),
        (("users", "anna", "ChangeName", FIELDS, "--timeout", "nan"), "not a number of seconds"),
        (("users", "anna", "ChangeName", FIELDS, "--no-wait", "--timeout", "3"), "--timeout needs --wait"),
        (("users", "anna", "ChangeName", FIELDS, "--expect", str(2**63)), "not in the range"),
        (("users", "anna", "ChangeName", '{"name": "\\ud800"}'), "error: "),
        (("--file", "-", "--id", "x"), "--id and --file do not go together"),
        (("--file", "-", "--expect", "3"), "--expect and --file do not go together"),
        (("--file", "-", "--after", "1h"), "--after and --file do not go together"),
        (("--file", "-", "users"), "or --file"),
        (("users", "anna"), "give AGGREGATE KEY TYPE [JSON]"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: tuple[str, ...], says: str) -> None:
    result = call(*arguments, data=line().encode())
    assert (result.exit_code, Cluster.sent) == (2, [])
    assert says in result.stderr.replace("\n", " ")


class Full(io.StringIO):
    """A standard output that takes one line."""

    def write(self, text: str) -> int:
        if self.tell():
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_output_that_fails_says_how_much_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Full()
    monkeypatch.setattr(send, "say_json", lambda told: out.write(json.dumps(told)))
    result = call("--file", "-", "--json", "--wait", data="\n".join([line()] * 3).encode())
    assert result.exit_code == 1
    assert "its output cannot be written: No space left on device; 3 of 3 commands were sent" in result.stderr


def test_a_service_that_is_held_is_waited_for_once_and_named() -> None:
    why = "users is held; go on with: pipeline resume users"
    Cluster.outcome = NoReply(f"no reply: {why}", "x", 5, Token("users.command/1@2"), held=why)
    many = call("--file", "-", "--wait", "--timeout", "7", data="\n".join(line(f"key-{n}") for n in range(5)).encode())
    assert many.exit_code == 1
    assert Cluster.waited == [7, 0, 0, 0, 0]
    assert many.stderr.splitlines()[-1] == f"unknown: {why}"
    one = call("users", "anna", "ChangeName", FIELDS)
    assert (one.exit_code, one.stdout) == (1, f"no reply: {why}\n")

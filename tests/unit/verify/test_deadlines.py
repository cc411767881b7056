"""`pipeline verify` on deadlines: what was left behind by the engine, and then damaged, each kind of damage found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.client.wire.as_of import parse_time
from pipeline.engine.ports import TP
from pipeline.model import DeadlineMessage
from pipeline.testing import TestDriver
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.verify import Entry, judge
from pipeline.verify.report import Report
from tests.simulation.worlds import tills as t

COMMANDS, DEADLINES = TP("tills.command", 0), TP("tills.deadlines", 0)
Edit = Callable[[list[Entry]], list[Entry]]


class Damaged(SimulatedHistory):
    """A past in which some logs are not what they were."""

    def __init__(self, driver: TestDriver) -> None:
        super().__init__(driver._world)
        self.codec = driver._oracle.codec
        self.edits: dict[TP, Edit] = {}
        self.lows: dict[TP, int] = {}
        self.bounds: dict[TP, int] = {}

    def records(self, tp: TP) -> Iterator[Entry]:
        entries = self.edits.get(tp, list)(list(super().records(tp)))
        return iter([entry for entry in entries if entry.offset >= self.low(tp)])

    def low(self, tp: TP) -> int:
        return self.lows.get(tp, 0)

    def bound(self, service: str, tp: TP) -> int | None:
        return self.bounds.get(tp, super().committed(service, tp))

    def judged(self) -> Report:
        return judge(self, t.TOPOLOGY, ("tills",), limit=100)


@pytest.fixture
def history() -> Iterator[Damaged]:
    """Of two deadlines one has come and one is to come, of two scheduled commands, too; one deadline was cancelled."""
    with TestDriver(t.TOPOLOGY, partitions=1) as driver:
        driver.send("tills", "till-1", t.Take(6), t.Close(), t.Take(8))  # one cancelled, one in 6 s
        driver.send_unseen("tills", "till-1", t.Take(3), at_ms=driver.now_ms + 1_000)
        driver.advance(10)
        driver.send("tills", "till-1", t.Take(6))  # to close in 2 s
        driver.send_unseen("tills", "till-2", t.Take(4), at_ms=driver.now_ms + 50_000)
        driver.send("tills", "till-1", t.Take(2))
        yield Damaged(driver)


def kinds(report: Report) -> set[str]:
    return set(report.found)


def place(history: Damaged, what: str) -> int:
    """Where the command stands that a deadline ("deadline:more") or a schedule ("command-4") has sent."""
    decode = history.codec["tills.command"].decode
    found = [(entry, decode(entry.value)) for entry in history.records(COMMANDS)]
    (at,) = (n for n, (_, m) in enumerate(found) if m.id.startswith(what) and m.causation_id)
    return at


def test_what_the_engine_does_is_right(history: Damaged) -> None:
    report = history.judged()
    assert report.clean, report.findings
    counted = {"deadlines to come": 2, "deadlines fired": 2, "scheduled": 2}
    assert counted.items() <= report.checked.items()


def test_one_that_was_lost(history: Damaged) -> None:
    for _, name in ((b"till-1", b"deadline:close"), (b"till-2", b"command:")):
        history.edits = {DEADLINES: lambda log, name=name: [e for e in log if name not in e.key]}  # type: ignore[misc]
        report = history.judged()
        assert kinds(report) == {"missing_deadline"}
        assert name.decode() in report.findings[0].expected


def test_one_that_an_earlier_decide_did_not_set(history: Damaged) -> None:
    """None of its name is there: as if it had been added to the code since. Not so one scheduled by hand."""
    history.edits = {DEADLINES: lambda log: [e for e in log if b"deadline:close" not in e.key]}
    cause = history.judged().likely_cause
    assert cause is not None
    moment = parse_time(cause.partition("--decided-since ")[2].partition(",")[0])
    assert judge(history, t.TOPOLOGY, ("tills",), decided_since_ms=moment).clean
    history.edits = {DEADLINES: lambda log: [e for e in log if b"command:" not in e.key]}
    assert kinds(report := history.judged()) == {"missing_deadline"}
    assert report.likely_cause is None


def test_one_that_was_lost_after_another_of_its_name_was_set() -> None:
    with TestDriver(t.TOPOLOGY, partitions=1) as driver:
        driver.send("tills", "till-1", t.Take(9))
        driver.send("tills", "till-2", t.Take(9))
        history = Damaged(driver)
        history.edits = {DEADLINES: lambda log: [e for e in log if b"till-2" not in e.key]}
        report = history.judged()
        assert kinds(report) == {"missing_deadline"}
        assert report.likely_cause is None


def test_one_whose_command_was_lost(history: Damaged) -> None:
    at = place(history, "deadline:more")
    history.edits = {COMMANDS: lambda log: log[:at] + log[at + 1 :]}
    assert "missing_deadline" in kinds(history.judged())


def test_one_that_was_not_deleted(history: Damaged) -> None:
    def undeleted(log: list[Entry]) -> list[Entry]:
        return [entry for entry in log if entry.value is not None or b"deadline:more" not in entry.key]

    history.edits = {DEADLINES: undeleted}
    assert kinds(history.judged()) == {"extra_deadline"}


def test_one_that_was_cancelled_and_stayed(history: Damaged) -> None:
    history.edits = {DEADLINES: lambda log: [entry for entry in log if entry.value][:1]}
    report = history.judged()
    assert "extra_deadline" in kinds(report)


def test_one_with_another_time(history: Damaged) -> None:
    codec = history.codec["tills.deadlines"]

    def later(log: list[Entry]) -> list[Entry]:
        row: DeadlineMessage = codec.decode(log[-1].value)
        return [*log[:-1], log[-1]._replace(value=codec.encode(row._replace(due_ms=row.due_ms + 1)))]

    history.edits = {DEADLINES: later}
    report = history.judged()
    assert kinds(report) == {"wrong_deadline"}
    assert [each.field for each in report.findings[0].fields] == ["due_ms"]


def test_one_that_nobody_can_read(history: Damaged) -> None:
    history.edits = {DEADLINES: lambda log: [*log[:-1], log[-1]._replace(value=b"rubbish")]}
    assert kinds(history.judged()) == {"unreadable", "missing_deadline"}


def in_place_of_the_last(history: Damaged, change: Callable[[Any], Any]) -> Edit:
    """The last command, an ordinary one, is what a deadline has sent, changed."""
    codec, at = history.codec["tills.command"], place(history, "deadline:more")

    def edit(log: list[Entry]) -> list[Entry]:
        value = codec.encode(change(codec.decode(log[at].value)))
        return [*log[:-1], log[-1]._replace(value=value)]

    return edit


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda m: m, "duplicate_fired"),
        (lambda m: m._replace(id="deadline:other/tills.command/0/0", causation_id="tills.command/0/0"), "extra_fired"),
        (lambda m: m._replace(body=t.Take(99)), "duplicate_fired"),
    ],
)
def test_a_command_that_came_twice_or_that_nothing_has_set(
    history: Damaged, change: Callable[[Any], Any], kind: str
) -> None:
    history.edits = {COMMANDS: in_place_of_the_last(history, change)}
    assert kind in kinds(history.judged())


def test_a_command_with_other_content(history: Damaged) -> None:
    codec, at = history.codec["tills.command"], place(history, "deadline:more")

    def edit(log: list[Entry]) -> list[Entry]:
        log[at] = log[at]._replace(value=codec.encode(codec.decode(log[at].value)._replace(body=t.Take(99))))
        return log

    history.edits = {COMMANDS: edit}
    report = history.judged()
    (found,) = [each for each in report.findings if each.kind == "wrong_fired"]
    assert [(each.field, each.found) for each in found.fields] == [("body.amount", "99")]


def test_a_command_before_its_time(history: Damaged) -> None:
    at = place(history, "deadline:more")

    def edit(log: list[Entry]) -> list[Entry]:
        log[at] = log[at]._replace(time_ms=log[at].time_ms - 61_000)
        return log

    history.edits = {COMMANDS: edit}
    assert "early_fired" in kinds(history.judged())


def test_what_retention_has_taken_is_not_judged(history: Damaged) -> None:
    history.lows = {COMMANDS: place(history, "command-4")}
    report = history.judged()
    assert not {kind for kind in kinds(report) if kind.endswith(("deadline", "fired"))}, report.findings


def test_what_has_happened_since_the_reading_began_may_be_there_or_not(history: Damaged) -> None:
    for bound in range(place(history, "deadline:more") + 2):
        history.bounds = {COMMANDS: bound}
        report = history.judged()
        assert not {kind for kind in kinds(report) if kind.endswith(("deadline", "fired"))}, (bound, report.findings)

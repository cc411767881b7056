"""A state that has changed: its revision is folded from the event log, before anything is decided with it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.engine.beside import catching_up
from pipeline.engine.stats import Wipe
from pipeline.errors import FoldError, RecordsLost, TableUnavailable
from pipeline.model import EventMessage, StateMessage
from pipeline.model.records.partitioning import partition_of
from pipeline.model.records.step_notes import NOTHING, StepNote, mark
from pipeline.server.reads.local_tables import LocalTables
from tests.helpers import accounts as a

SCHEMAS: dict[str, Path] = {}


@pytest.fixture
def bank(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> a.Bank:
    if not SCHEMAS:
        SCHEMAS["here"] = a.write_schemas(tmp_path_factory.mktemp("schemas"))
    monkeypatch.setattr(catching_up, "RECORDS", 7)
    monkeypatch.setattr(catching_up, "BUDGET_S", -1.0)  # one batch a turn
    return a.Bank(SCHEMAS["here"])


def of_all(state: object) -> dict[str, object]:
    return dict.fromkeys(a.KEYS, state)


def test_a_new_revision_has_the_states_that_all_events_come_to(bank: a.Bank) -> None:
    bank.pay(10, times=5)
    bank.pay(-20)
    bank.run(a.FIRST)
    assert bank.rows() == of_all(a.Account(30))
    bank.stop()
    bank.run(a.SECOND)
    assert bank.rows() == of_all(a.Ledger(50, 20))
    assert bank.past(5) == {a.Ledger(50, 0)}, "history is of this revision, too"
    bank.pay(-30)
    bank.pay(-1)
    bank.turn(bank.level)
    assert bank.rows() == of_all(a.Ledger(50, 50)), "what is decided follows on that"
    report = bank.verified(a.SECOND)
    assert (report.findings, report.rejected) == ([], {"accounts/overdrawn": 6})
    assert bank.kafka.topics["accounts_v2.state"].logs[0].end


def test_nothing_is_decided_or_read_before_that(bank: a.Bank) -> None:
    bank.pay(10, times=20)
    bank.run(a.FIRST)
    bank.stop()
    bank.pay(-200)  # which only who has seen all may grant
    events = bank.events()
    bank.lane(a.SECOND)
    bank.turn(lambda: bank.lanes["bank-0"].stats.building != {})
    bank.turn(lambda: len(bank.lanes["bank-0"]._tasks.behind()) == 2)
    for lane in bank.lanes.values():
        lane.turn()
    assert bank.events() == events
    with pytest.raises(TableUnavailable, match=r"revision 2 of 'accounts' is folded from the event log: \d+ of \d+ in"):
        bank.rows()
    assert set(bank.lanes["bank-0"].stats.building) == {"accounts.command-0", "accounts.command-1"}
    bank.turn(bank.level)
    assert bank.rows() == of_all(a.Ledger(200, 200))
    assert bank.lanes["bank-0"].stats.building == {}
    assert not bank.verified(a.SECOND).findings


def test_a_crash_while_it_is_folded_costs_what_was_not_committed(
    bank: a.Bank, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="pipeline.engine.beside.states")
    bank.pay(1, times=30)
    bank.run(a.FIRST)
    bank.stop()
    lane = bank.lane(a.SECOND)
    bank.turn(lambda: any(states.at > 50 for states in lane._tasks.behind().values()))
    committed = [position.steps[mark("accounts_v2.state")].at for position in bank.kafka.group("bank").offsets.values()]
    bank.crash()
    caplog.clear()
    bank.lane(a.SECOND)
    bank.turn(bank.level)
    begun = [int(at) for at in re.findall(r"lacks accounts.event-\d from offset (\d+) to", caplog.text)]
    assert (sorted(begun), max(begun) > 50) == (sorted(committed), True)
    assert bank.rows() == of_all(a.Ledger(30, 0))
    assert not bank.verified(a.SECOND).findings


@pytest.mark.parametrize("crash", [False, True])
def test_partitions_may_move_between_revisions_both_ways(bank: a.Bank, crash: bool) -> None:
    bank.pay(10)
    bank.run(a.FIRST)
    end = bank.crash if crash else bank.stop
    for n in range(1, 4):
        end()
        bank.pay(10)
        bank.run(a.SECOND)
        assert bank.rows() == of_all(a.Ledger(20 * n, 0))
        end()
        bank.pay(10)
        bank.run(a.FIRST)
        assert bank.rows() == of_all(a.Account(20 * n + 10))
        assert not bank.verified(a.FIRST).findings


def test_only_what_is_lacking_is_folded_when_it_comes_back(bank: a.Bank) -> None:
    bank.pay(1, times=30)
    bank.run(a.FIRST)
    bank.stop()
    bank.run(a.SECOND)
    bank.stop()
    bank.pay(1)
    bank.run(a.FIRST)
    bank.stop()
    lane = bank.lane(a.SECOND)
    bank.turn(lambda: len(lane._tasks.behind()) == 2)
    assert all(states.end - states.at < 20 for states in lane._tasks.behind().values())
    bank.turn(bank.level)
    assert bank.rows() == of_all(a.Ledger(31, 0))


def test_two_workers_of_two_revisions_at_once(bank: a.Bank) -> None:
    bank.pay(10, times=3)
    bank.run(a.FIRST)
    lane = bank.lane(a.SECOND, "bank-1")
    bank.pay(10, times=3)
    bank.turn(lambda: bool(lane._tasks.running()) and bank.level())
    held = {view[1] for view in lane.views}
    assert len(held) == 1
    rows = bank.rows()
    assert set(rows.values()) == {a.Account(60), a.Ledger(60, 0)}
    bank.crash("bank-0")
    bank.pay(-60)
    bank.turn(bank.level)
    assert bank.rows() == of_all(a.Ledger(60, 60))
    assert not bank.verified(a.SECOND).findings


def test_a_standby_does_not_answer_for_an_owner_of_another_revision(bank: a.Bank) -> None:
    bank.pay(10)
    bank.run(a.FIRST)
    lane = bank.lane(a.SECOND, "bank-1", standby=True)
    bank.turn(lambda: bool(lane._tasks.running()) and bank.level())
    bank.turn(lambda: any(view.copy is not None for view in lane.views.values()))
    tables = LocalTables(lambda: lane.views)
    (partition,) = (n for (name, n), view in lane.views.items() if name == "accounts" and view.copy is not None)
    for wait_s in (0, 5):  # before it has asked, and after
        bank.kafka.clock.advance(wait_s)
        lane.turn()
        with pytest.raises(TableUnavailable, match="another revision"):
            tables.pairs("accounts", partition, b"", b"", 10)
    bank.stop("bank-0")
    bank.run(a.SECOND, "bank-2")
    bank.kafka.clock.advance(5)
    bank.turn(lambda: not lane._tasks._lacking)
    for n in range(2):
        assert tables.pairs("accounts", n, b"", b"", 10)


def test_a_worker_that_knows_nothing_of_revisions_leaves_no_gap(bank: a.Bank) -> None:
    """It commits without a note of what others lack, or with one that is not so any more."""
    bank.pay(10)
    bank.run(a.FIRST)
    bank.stop()
    bank.run(a.SECOND)
    bank.stop()
    noted = {tp: position.steps for tp, position in bank.kafka.group("bank").offsets.items()}
    bank.pay(5)
    bank.run(a.FIRST)
    bank.stop()
    offsets = bank.kafka.group("bank").offsets
    for tp, position in offsets.items():
        offsets[tp] = position._replace(steps=noted[tp])  # as if the first revision had not been here
    bank.run(a.SECOND)
    assert bank.rows() == of_all(a.Ledger(15, 0))


def test_where_a_note_is_too_far_it_is_folded_from_the_beginning(
    bank: a.Bank, caplog: pytest.LogCaptureFixture
) -> None:
    bank.pay(1, times=10)
    bank.run(a.FIRST)
    bank.stop()
    offsets = bank.kafka.group("bank").offsets
    name = mark("accounts_v2.state")
    for tp, position in offsets.items():
        offsets[tp] = position._replace(steps={**position.steps, name: StepNote(0, 9, level=False)})
    bank.run(a.SECOND)
    assert bank.rows() == of_all(a.Ledger(10, 0))
    assert "is folded from its beginning" in caplog.text


def test_without_revisions_nothing_is_noted_and_no_log_is_read(bank: a.Bank) -> None:
    bank.pay(10, times=3)
    lane = bank.run(a.FIRST)
    bank.stop()
    lane = bank.run(a.FIRST)
    assert all(position.steps == {} for position in bank.kafka.group("bank").offsets.values())
    assert lane._building._catching_up._reader is None


def test_a_revision_that_is_the_first_has_nothing_to_fold(bank: a.Bank) -> None:
    bank.pay(10)
    bank.run(a.SECOND)
    assert bank.rows() == of_all(a.Ledger(10, 0))
    notes = [position.steps[mark("accounts_v2.state")] for position in bank.kafka.group("bank").offsets.values()]
    assert [(note.began, note.at) for note in notes] == [(0, NOTHING)] * 2
    assert not bank.verified(a.SECOND).findings


def test_a_disk_of_another_revision_is_not_read(bank: a.Bank) -> None:
    bank.pay(10, times=3)
    lane = bank.run(a.FIRST)
    for view in lane.histories.values():
        view.flush()
    bank.stop()
    bank.run(a.SECOND)
    wiped = bank.stats["bank-0"].wiped
    assert bank.past(3) == {a.Ledger(30, 0)}, "of which the first revision had kept the state"
    assert wiped == {Wipe.OTHER_REVISION: 4}, "tables and histories of two partitions"


def test_an_event_that_cannot_be_folded_ends_the_worker_with_its_place(bank: a.Bank) -> None:
    def picky(ledger: a.Ledger, event: a.Paid) -> a.Ledger:
        if event.amount == 13:
            raise ValueError("thirteen")
        return a.enter(ledger, event)

    bank.pay(1)
    bank.pay(13)
    bank.run(a.FIRST)
    bank.stop()
    bank.lane(replace(a.SECOND, evolve=picky))
    with pytest.raises(FoldError, match=r"revision 2 of 'accounts' cannot be folded from accounts.event-\d offset \d+"):
        bank.turn(bank.level)
    bank.crash()
    bank.run(a.FIRST)
    assert bank.rows() == of_all(a.Account(14)), "the revision before goes on"


def test_an_event_log_with_a_gap_ends_the_worker(bank: a.Bank) -> None:
    bank.pay(1)
    bank.run(a.FIRST)
    bank.append_event("account-0", EventMessage(3, "x", "x", 0, a.Paid(1)))
    bank.stop()
    bank.lane(a.SECOND)
    with pytest.raises(RecordsLost, match="version 2 is missing"):
        bank.turn(bank.level)


def test_verify_does_not_judge_what_another_revision_has_decided_or_not_built(bank: a.Bank) -> None:
    def generous(command: a.Pay, account: a.Account) -> list[a.Paid]:
        return [a.Paid(command.amount), a.Paid(1)]

    first = replace(a.FIRST, decide=generous)
    bank.pay(10)
    bank.pay(-20)
    bank.run(first)
    report = bank.verified(a.SECOND)
    assert (report.findings, dict(report.not_judged)) == (
        [],
        {
            "commands that another revision of states has decided otherwise": 12,
            "states of accounts, as revision 2 is not built": 6,
        },
    )
    bank.stop()
    bank.run(a.SECOND)
    bank.pay(5)
    bank.turn(bank.level)
    assert bank.rows() == of_all(a.Ledger(12, 20)), "it never could be, by this revision"
    report = bank.verified(a.SECOND)
    assert (report.findings, report.not_judged.total()) == ([], 12)
    assert (report.checked["commands"], report.checked["states"], report.checked["table rows"]) == (6, 6, 6)
    report = bank.verified(first)
    assert report.not_judged["states of accounts, as revision 1 is not built"] == 6


def test_verify_finds_a_state_of_another_revision(bank: a.Bank) -> None:
    bank.pay(10)
    bank.pay(-5)
    bank.run(a.FIRST)
    bank.stop()
    bank.run(replace(a.SECOND, evolve=lambda ledger, event: replace(ledger, paid_in=ledger.paid_in + event.amount)))
    assert {finding.kind for finding in bank.verified(a.SECOND).findings} == {"wrong_state", "wrong_table_row"}


def test_what_stands_there_of_another_past_is_not_built_upon(bank: a.Bank) -> None:
    """Such as of an attempt that was taken back, or of topics that were deleted and made again."""
    encode = bank.make("accounts_v2.state", StateMessage, a.Ledger).encode
    for log in bank.kafka.topics["accounts_v2.state"].logs:
        for key in a.KEYS:
            if partition_of(key.encode(), 2) == log.tp.partition:
                bank.kafka.append(log.tp, key.encode(), encode(StateMessage(2, 0, a.Ledger(999, 999))))
    bank.pay(10, times=3)
    bank.run(a.FIRST)
    bank.stop()
    bank.run(a.SECOND)
    assert bank.rows() == of_all(a.Ledger(30, 0))
    assert not bank.verified(a.SECOND).findings

"""States of a new revision are built ahead, while workers of the one before go on, and taken over as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.adapters.memory import MemoryLogReader, MemoryProducer, MemoryStores
from pipeline.engine.beside import catching_up
from pipeline.engine.beside.built_ahead import build_name
from pipeline.engine.plan import ServicePlan
from pipeline.errors import FoldError, LaneFatal, TopologyError, UnknownTable
from pipeline.rebuild import states
from pipeline.rebuild.states import StatesBuild, revised, taken_over
from pipeline.topology import Topology
from tests.helpers import accounts as a

SCHEMAS: dict[str, Path] = {}


@pytest.fixture
def bank(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> a.Bank:
    if not SCHEMAS:
        SCHEMAS["here"] = a.write_schemas(tmp_path_factory.mktemp("schemas"))
    monkeypatch.setattr(states, "RECORDS", 7)
    monkeypatch.setattr(catching_up, "RECORDS", 7)
    monkeypatch.setattr(catching_up, "BUDGET_S", -1.0)  # one batch a turn
    return a.Bank(SCHEMAS["here"])


def begun(bank: a.Bank) -> StatesBuild:
    """A build that has got its epoch, looked who is there, and read what is built."""
    plan = ServicePlan(a.service(a.SECOND), bank.make)
    spec = plan.source_topics["accounts.command"].folds
    assert spec is not None
    producer = MemoryProducer(bank.kafka, build_name("bank", spec))
    taken = taken_over(spec, bank.kafka.group("bank").offsets)
    left = [n for n in range(bank.partitions) if n not in taken]
    stores, reader = MemoryStores(), MemoryLogReader(bank.kafka, "build")
    build = StatesBuild(spec, plan.positions, left, producer, reader, lambda n: stores.open(str(n)), bank.kafka.clock)
    build.restore()
    return build


def turn(bank: a.Bank, build: StatesBuild, turns: int = 10_000) -> None:
    for _ in range(turns):
        if build.level:
            return
        build.turn()
        bank.kafka.clock.advance(0.01)


def lacked(bank: a.Bank, caplog: pytest.LogCaptureFixture) -> int:
    """How many events a worker of the new revision has to fold when it takes over."""
    caplog.set_level("INFO", logger="pipeline.engine.beside.states")
    caplog.clear()
    bank.run(a.SECOND)
    told = re.findall(r"lacks accounts.event-\d from offset (\d+) to (\d+)", caplog.text)
    assert len(told) == 2
    return sum(int(end) - int(at) for at, end in told)


def test_a_worker_takes_over_what_is_built(bank: a.Bank, caplog: pytest.LogCaptureFixture) -> None:
    bank.pay(10, times=20)
    bank.run(a.FIRST)
    build = begun(bank)
    turn(bank, build)
    assert (build.level, build.done, build.total) == (True, 122, 122)
    bank.pay(-5)  # workers go on
    bank.turn(bank.level)
    assert bank.rows() == dict.fromkeys(a.KEYS, a.Account(195))
    bank.stop()
    assert 0 < lacked(bank, caplog) <= 10
    assert bank.rows() == dict.fromkeys(a.KEYS, a.Ledger(200, 5))
    assert not bank.verified(a.SECOND).findings
    assert begun(bank).level, "there is nothing left to it"


def test_where_nothing_came_since_there_is_nothing_to_fold(bank: a.Bank, caplog: pytest.LogCaptureFixture) -> None:
    bank.pay(10, times=5)
    bank.run(a.FIRST)
    bank.stop()
    turn(bank, begun(bank))
    assert lacked(bank, caplog) == 0
    assert bank.rows() == dict.fromkeys(a.KEYS, a.Ledger(50, 0))


def test_one_that_is_killed_goes_on_where_it_was(bank: a.Bank, caplog: pytest.LogCaptureFixture) -> None:
    bank.pay(10, times=20)
    bank.run(a.FIRST)
    build = begun(bank)
    turn(bank, build, 6)
    done = build.done
    assert 20 < done < 100
    build._producer.begin()  # killed in a transaction
    build._producer.produce("accounts_v2.state", b"account-0", b"half", 0)
    again = begun(bank)
    assert again.done == done
    with pytest.raises(LaneFatal):
        turn(bank, build)  # two at once there are not
    turn(bank, again)
    bank.stop()
    assert lacked(bank, caplog) < 5
    assert bank.rows() == dict.fromkeys(a.KEYS, a.Ledger(200, 0))


def test_a_worker_that_takes_over_ends_the_build(bank: a.Bank) -> None:
    bank.pay(10, times=20)
    bank.run(a.FIRST)
    bank.stop()
    build = begun(bank)
    turn(bank, build, 5)
    lane = bank.lane(a.SECOND)
    bank.turn(lambda: len(lane._tasks.behind()) == 2 and not any(s.shared for s in lane._tasks.behind().values()))
    with pytest.raises(LaneFatal):
        turn(bank, build)
    bank.turn(bank.level)
    assert bank.rows() == dict.fromkeys(a.KEYS, a.Ledger(200, 0))
    assert not bank.verified(a.SECOND).findings


def test_what_is_built_between_restore_and_take_over_is_not_missed(bank: a.Bank) -> None:
    bank.pay(10, times=20)
    bank.run(a.FIRST)
    bank.stop()
    build = begun(bank)
    turn(bank, build, 3)
    lane = bank.lane(a.SECOND)
    while not lane._tasks.behind():
        lane.poll()  # it has restored, and committed nothing yet
    turn(bank, build, 6)
    with pytest.raises(LaneFatal, match="was built up to"):
        bank.turn(bank.level)
    bank.crash()
    bank.run(a.SECOND)
    assert bank.rows() == dict.fromkeys(a.KEYS, a.Ledger(200, 0))
    bank.stop()
    bank.disks.clear()  # from the topic alone
    bank.run(a.SECOND)
    assert bank.rows() == dict.fromkeys(a.KEYS, a.Ledger(200, 0))
    assert not bank.verified(a.SECOND).findings


def test_what_cannot_be_folded_is_told_with_its_place(bank: a.Bank) -> None:
    bank.pay(10)
    bank.run(a.FIRST)
    bank.kafka.append(bank.kafka.topics["accounts.event"].logs[0].tp, b"account-0", b"no event")
    with pytest.raises(FoldError, match=r"revision 2 of 'accounts' cannot be folded from accounts.event-0 offset \d+"):
        turn(bank, begun(bank))


def test_only_an_aggregate_with_a_revision_has_anything_to_build(bank: a.Bank) -> None:
    with pytest.raises(TopologyError, match="declare the aggregate with revision=2"):
        revised(Topology("bank", {"bank": a.service(a.FIRST)}, bank.schemas), "accounts")
    with pytest.raises(UnknownTable, match="accounts"):
        revised(Topology("bank", {"bank": a.service(a.SECOND)}, bank.schemas), "nothing")

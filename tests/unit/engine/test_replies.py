"""Commands that come again: one effect, the first reply; and those that may have come before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.memory import MemoryStores
from pipeline.engine.ports import Store
from pipeline.engine.state.replies import LOOK_AHEAD, ReplyTable, reply_key, reply_rows, trim_copy
from pipeline.engine.state.row_keys import order_prefix
from pipeline.engine.state.table import Table, TableSpec
from pipeline.engine.stats import LaneStats
from pipeline.engine.steps.ask import AskSender
from pipeline.engine.steps.decide import REPLY_EVENTS_BYTES_MAX, CommandCodecs, DecideStep, Parts
from pipeline.engine.steps.scheduler import Scheduler
from pipeline.engine.steps.step import Output
from pipeline.errors import TopologyError
from pipeline.flow import asked_before, too_late
from pipeline.flow.command_to_reply import AHEAD_S_MAX, keep_ms
from pipeline.model import (
    Acceptance,
    Aggregate,
    CommandMessage,
    Idempotency,
    Parked,
    Rejected,
    ReplyMessage,
    StateMessage,
)
from pipeline.model.records.messages import EventMessage
from topologies import users as u

SCHEMAS = Path(__file__).parents[3] / "schemas"
MAKE = codecs(SCHEMAS)
REPLY = MAKE("reply", ReplyMessage, Acceptance | Rejected | Parked)
COMMAND = MAKE("users.command", CommandMessage, u.Command)
EVENT = MAKE("users.event", EventMessage, u.Event)
STATE = MAKE("users.state", StateMessage, u.User)
SPEC = TableSpec("users.replies", "users.replies", REPLY, Table, reply_rows)
ORDER = order_prefix("users.replies")
HOUR_MS = 3_600_000


def command(issued_ms: int, body: Any = None, name: str = "c1", **more: Any) -> CommandMessage:
    return CommandMessage(name, name, None, issued_ms, body or u.RegisterUser("Anna", "France"), **more)


# --- the pure steps ---------------------------------------------------------------------------------------------------


def test_within_the_window_a_command_is_decided() -> None:
    assert too_late(command(1_000), Idempotency(window_s=10), time_ms=11_000, forgotten_ms=0) is None


def test_after_the_window_it_is_expired() -> None:
    assert too_late(command(1_000), Idempotency(window_s=10), 11_001, 0) == Rejected(
        "expired", {"issued_ms": "1000", "stored_ms": "11001"}
    )


def test_what_was_issued_before_an_id_that_is_forgotten_is_expired() -> None:
    assert too_late(command(1_000), Idempotency(), 1_500, forgotten_ms=1_000) == Rejected(
        "expired", {"issued_ms": "1000", "forgotten_ms": "1000"}
    )


def test_a_clock_far_ahead_is_refused() -> None:
    ahead_ms = int(1000 * AHEAD_S_MAX)
    assert too_late(command(ahead_ms), Idempotency(), 0, -1) is None
    refused = too_late(command(ahead_ms + 1), Idempotency(), 0, -1)
    assert refused is not None
    assert refused.reason == "issued_in_the_future"
    assert refused.details["clock"] == "the sender's is 61 s ahead of the broker's; 60 s are allowed"


def test_what_the_pipeline_itself_sends_is_never_too_late() -> None:
    caused = command(0)._replace(causation_id="orders.event/o1/1")
    assert too_late(caused, Idempotency(window_s=1), HOUR_MS, HOUR_MS) is None


def test_an_id_is_remembered_until_no_repetition_can_be_decided() -> None:
    idempotency = Idempotency(window_s=10)
    stored_ms = 1_000_000
    latest_issue = stored_ms + int(1000 * AHEAD_S_MAX)  # by a clock that goes ahead
    last_decided = latest_issue + 10_000
    assert too_late(command(latest_issue), idempotency, last_decided, 0) is None
    assert last_decided - stored_ms <= keep_ms(idempotency)


def test_the_same_id_for_something_else_is_refused() -> None:
    earlier = ReplyMessage("c1", "users", 3, 77, 0, 0, 5, Acceptance(1, 1, ()))
    assert asked_before(earlier, 5) is None
    assert asked_before(earlier, 6) == Rejected("id_reused", {"position": "users.command/3@77"})
    assert asked_before(earlier, 1 << 32 | 6) is None, "written with another version of the schema"


@pytest.mark.parametrize("wrong", [{"window_s": 0}, {"window_s": 7 * 86_400}, {"records": 0}])
def test_a_memory_that_cannot_be_kept_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TopologyError):
        Idempotency(**wrong)


def memory_store() -> Store:
    return MemoryStores().open("t")


# --- the memory -------------------------------------------------------------------------------------------------------


def reply(offset: int, time_ms: int, name: str) -> bytes:
    return REPLY.encode(ReplyMessage(name, "users", 0, offset, time_ms - 1, time_ms, 1, Acceptance(1, 1, ())))


def give(answers: ReplyTable, *places: tuple[int, int]) -> None:
    for offset, time_ms in places:
        answers.expire_up_to(offset, time_ms)
        name = f"c{offset}"
        answers.add(reply_key(b"k", name), reply(offset, time_ms, name), offset, time_ms, issued_ms=time_ms - 1)


def commit(answers: ReplyTable) -> None:
    rows, marks = answers.kept(answers.changes())
    answers.store.write(rows, marks)
    answers.mark_committed()


def give_late(answers: ReplyTable, own: int, placed: tuple[int, int]) -> None:
    """The reply to a command that was parked, and decided so late."""
    message = ReplyMessage(f"c{own}", "users", 0, own, 1, 2, 1, Acceptance(1, 1, ()), *placed)
    answers.add(reply_key(b"k", f"c{own}"), REPLY.encode(message), *placed, 1, own)


def known(answers: ReplyTable, number: int, offset: int, time_ms: int) -> bool:
    answers.expire_up_to(offset, time_ms)
    return answers.find(reply_key(b"k", f"c{number}"), offset, time_ms) is not None


def test_the_last_records_are_remembered_and_the_store_holds_no_more() -> None:
    answers = ReplyTable(Idempotency(records=3), SPEC, memory_store())
    for offset in range(10):
        give(answers, (offset, 100 + offset))
        if offset % 4 == 3:
            commit(answers)
    commit(answers)
    assert [n for n in range(10) if known(answers, n, 10, 200)] == [8, 9]
    assert answers.expire_up_to(10, 200) == 107  # what was forgotten last was stored then
    commit(answers)
    assert len(answers.store.scan(b"users.replies", b"users.replies", 100)) == 4, "two replies, two places"


def test_what_is_too_old_is_forgotten() -> None:
    answers = ReplyTable(Idempotency(window_s=10), SPEC, memory_store())
    give(answers, (0, 1_000), (1, 2_000))
    commit(answers)
    after = 1_000 + keep_ms(answers.idempotency)
    assert known(answers, 0, 2, after)
    assert not known(answers, 0, 2, after + 1)
    assert known(answers, 1, 2, after + 1)


def test_an_abort_takes_back_what_was_given_and_what_was_forgotten() -> None:
    answers = ReplyTable(Idempotency(records=2), SPEC, memory_store())
    give(answers, (0, 10), (1, 11))
    commit(answers)
    give(answers, (2, 12), (3, 13), (4, 14))
    assert answers.expire_up_to(4, 14) == 12
    answers.roll_back()
    assert answers.expire_up_to(1, 11) == 0
    assert known(answers, 1, 1, 11)
    assert not known(answers, 3, 3, 13)
    give(answers, (2, 12))
    commit(answers)
    assert [n for n in range(5) if known(answers, n, 3, 13)] == [2]


def test_a_restart_goes_on_where_it_was() -> None:
    store = memory_store()
    answers = ReplyTable(Idempotency(records=3), SPEC, store)
    give(answers, *[(n, n) for n in range(5)])
    commit(answers)
    again = ReplyTable(Idempotency(records=3), SPEC, store)
    assert again.expire_up_to(4, 4) == answers.expire_up_to(4, 4) == 1


def test_restored_from_the_changelog_it_forgets_the_same() -> None:
    answers = ReplyTable(Idempotency(records=3), SPEC, memory_store())
    changelog = []
    for n in range(8):
        give(answers, (n, 10 + n))
        changelog += answers.changes()
        commit(answers)
    store = memory_store()
    store.write(reply_rows(SPEC, store, changelog), {})
    restored = ReplyTable(Idempotency(records=3), SPEC, store)
    assert restored.expire_up_to(8, 18) == answers.expire_up_to(8, 18) == 15
    assert [known(restored, n, 8, 18) for n in range(8)] == [known(answers, n, 8, 18) for n in range(8)]


def test_an_id_given_anew_after_it_was_forgotten_stays() -> None:
    answers = ReplyTable(Idempotency(window_s=1), SPEC, memory_store())
    name = reply_key(b"k", "c0")
    give(answers, (0, 0))
    commit(answers)
    late_ms = keep_ms(answers.idempotency) + 1
    answers.expire_up_to(1, late_ms)
    answers.add(name, reply(1, late_ms, "c0"), 1, late_ms, late_ms)
    commit(answers)
    found = answers.find(name, 2, late_ms)
    assert found is not None
    assert found[0].offset == 1
    assert len(answers.store.scan(ORDER, ORDER, 10)) == 1


def test_an_id_forgotten_and_given_anew_in_one_transaction_has_both_replies_in_the_changelog() -> None:
    answers = ReplyTable(Idempotency(records=1), SPEC, memory_store())
    for offset in (0, 1):
        answers.expire_up_to(offset, offset)
        name = reply_key(b"k", "same")
        assert answers.find(name, offset, offset) is None
        answers.add(name, reply(offset, offset, "same"), offset, offset, offset)
    assert [REPLY.decode(data).offset for _, data in answers.changes()] == [0, 1]
    commit(answers)
    found = answers.find(reply_key(b"k", "same"), 1, 1)
    assert found is not None
    assert found[0].offset == 1


def test_what_a_caused_command_says_of_its_issue_expires_nobody() -> None:
    folded = Folded(idempotency=Idempotency(records=2))
    folded.fold(command(2**62, name="caused")._replace(causation_id="orders.event/o1/1"), 1_000)
    for n in range(3):
        folded.fold(command(70_000 + n, u.ChangeName(f"{n}"), f"c{n}"), 70_000)
    assert folded.stats.rejected == {}


def test_more_than_it_reads_at_once_is_forgotten_in_order() -> None:
    answers = ReplyTable(Idempotency(records=5), SPEC, memory_store())
    count = 2 * LOOK_AHEAD + 7
    store = answers.store
    store.write(reply_rows(SPEC, store, [(reply_key(b"k", f"c{n}"), reply(n, n, f"c{n}")) for n in range(count)]), {})
    assert answers.expire_up_to(count, count) == count - 5
    commit(answers)
    assert len(store.scan(ORDER, ORDER, count)) == 4


def test_no_two_ids_share_a_key() -> None:
    assert reply_key(b"ab", "c") != reply_key(b"a", "bc")


def test_a_copy_forgets_as_its_owner_did() -> None:
    owner, copy = ReplyTable(Idempotency(records=5), SPEC, memory_store()), memory_store()
    for n in range(3 * LOOK_AHEAD):
        give(owner, (n, n))
        changes = [(reply_key(b"k", f"c{n}"), reply(n, n, f"c{n}"))]
        copy.write(reply_rows(SPEC, copy, changes), {})
        if n % 700 == 0:
            commit(owner)
            while trim_copy(owner.idempotency, SPEC, copy, changes[0][1]):
                pass
            assert len(copy.scan(ORDER, ORDER, 100)) <= 5
    taken_over = ReplyTable(Idempotency(records=5), SPEC, copy)
    assert taken_over.expire_up_to(3 * LOOK_AHEAD, 3 * LOOK_AHEAD) == owner.expire_up_to(3 * LOOK_AHEAD, 3 * LOOK_AHEAD)


def test_a_sender_whose_clock_is_ahead_cannot_act_twice_either() -> None:
    folded = Folded(idempotency=Idempotency(records=2))
    ahead = command(1_000 + int(900 * AHEAD_S_MAX), reply_to=TO)
    assert folded.fold(ahead, 1_000) is not None
    for n in range(3):
        folded.fold(command(2_000, name=f"other {n}"), 2_000)
    again = folded.fold(ahead, 3_000)
    assert again is not None
    assert again.body.reason == "expired"
    assert len(folded.events) == 1


# --- the node ---------------------------------------------------------------------------------------------------------


class Recorded:
    """One record of the command topic."""

    def __init__(self, offset: int, time_ms: int) -> None:
        self._offset, self._time_ms = offset, time_ms

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, self._time_ms


class Sink:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | None, bytes | None]] = []

    def partitions(self, topic: str) -> int:
        return 4 if topic in ("shop.reply", "users.command") else 0

    def produce(self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
        self.sent.append((topic, key, value))


class Folded:
    """The users' aggregate, on commands one after the other."""

    def __init__(self, aggregate: Aggregate[Any, Any, Any] = u.users, idempotency: Idempotency | None = None) -> None:
        self.sink, self.stats = Sink(), LaneStats()
        self.table = Table(TableSpec("users", "users.state", STATE), memory_store())
        self.answers = ReplyTable(idempotency or Idempotency(), SPEC, memory_store())
        coders = CommandCodecs(COMMAND.encode, EVENT.encode, REPLY.encode)
        out = Output(self.sink, self.stats)  # type: ignore[arg-type]
        scheduler, asks = Scheduler("users", None, COMMAND, self.stats), AskSender("users", "users.command", 2, {})
        parts = Parts(self.table, self.answers, scheduler, asks, None, None)
        self._node = DecideStep(aggregate, coders, "users.event", 2, parts, out)
        self._offset = 0

    def fold(self, message: CommandMessage, time_ms: int = 1_000) -> ReplyMessage | None:
        """Folds it; returns the reply."""
        before = len(self.sink.sent)
        record: Any = Recorded(self._offset, time_ms)
        self._offset += 1
        self._node.fold(b"anna", record, message)
        replies = [REPLY.decode(value) for topic, _, value in self.sink.sent[before:] if topic == "shop.reply"]
        assert len(replies) <= 1
        return replies[0] if replies else None

    @property
    def events(self) -> list[Any]:
        return [EVENT.decode(value).body for topic, _, value in self.sink.sent if topic == "users.event"]


TO = "shop.reply/3/me/1"


def test_a_reply_says_what_was_decided_and_where() -> None:
    folded = Folded()
    answer = folded.fold(command(900, reply_to=TO))
    assert answer is not None
    assert (answer.command_id, answer.aggregate, answer.partition, answer.offset) == ("c1", "users", 2, 0)
    assert (answer.body.version, answer.body.count) == (1, 1)
    assert [EVENT.decode(event).body for event in answer.body.events] == folded.events
    assert folded.sink.sent[-1][1] == b"me/1"


def test_a_repeated_id_gets_the_first_reply_and_has_no_second_effect() -> None:
    folded = Folded()
    first = folded.fold(command(900, reply_to=TO))
    folded.fold(command(950, u.ChangeName("Berta"), "c2"))
    assert folded.fold(command(970, reply_to=TO)) == first
    assert folded.events == [u.UserRegistered("Anna", "France"), u.NameChanged("Berta")]
    assert folded.stats.repeated == 1


def test_a_rejection_is_remembered_as_well() -> None:
    folded = Folded()
    first = folded.fold(command(900, u.ChangeName("Berta"), reply_to=TO))
    assert first is not None
    assert isinstance(first.body, Rejected)
    folded.fold(command(950, name="c2"))
    assert folded.fold(command(970, u.ChangeName("Berta"), reply_to=TO)) == first


def test_a_repeated_id_with_another_command_is_refused_and_the_first_reply_stays() -> None:
    folded = Folded()
    first = folded.fold(command(900, reply_to=TO))
    other = folded.fold(command(900, u.RegisterUser("Zoe", "Spain"), reply_to=TO))
    assert other is not None
    assert other.body == Rejected("id_reused", {"position": "users.command/2@0"})
    assert folded.fold(command(970, reply_to=TO)) == first
    assert folded.stats.rejected == {("users", "id_reused"): 1}


def test_what_is_too_late_is_not_remembered() -> None:
    folded = Folded(idempotency=Idempotency(window_s=1))
    late = folded.fold(command(0, reply_to=TO), time_ms=5_000)
    assert late is not None
    assert late.body.reason == "expired"
    again = folded.fold(command(4_999, reply_to=TO), time_ms=5_000)
    assert again is not None
    assert again.body.version == 1


def test_an_expected_version_must_be_the_one_there_is() -> None:
    folded = Folded()
    folded.fold(command(900, expected_version=0))
    stale = folded.fold(command(900, u.ChangeName("Berta"), "c2", expected_version=0, reply_to=TO))
    assert stale is not None
    assert stale.body == Rejected("version_conflict", {"expected": "0", "actual": "1"})
    fresh = folded.fold(command(900, u.ChangeName("Berta"), "c3", expected_version=1, reply_to=TO))
    assert fresh is not None
    assert fresh.body.version == 2


@pytest.mark.parametrize(
    "reply_to",
    [
        "missing.reply/0/me",
        "users.command/0/me",
        "shop.reply",
        "shop.reply/0",
        "shop.reply/0/",
        "shop.reply/4/me",
        "shop.reply/-1/me",
        "shop.reply/²/me",
        "shop.reply/99999999999999999999/me",
        "a\0.reply/0/me",
        "x" * 40_000 + ".reply/0/me",
        "",
    ],
)
def test_a_reply_that_cannot_be_delivered_is_counted_and_nothing_else(reply_to: str) -> None:
    folded = Folded()
    assert folded.fold(command(900, reply_to=reply_to)) is None
    assert folded.stats.undeliverable_replies == 1
    assert len(folded.events) == 1
    assert {topic for topic, _, _ in folded.sink.sent} == {"users.event"}


def test_a_reply_leaves_large_events_out_and_says_so() -> None:
    folded = Folded()
    answer = folded.fold(command(900, u.RegisterUser("x" * REPLY_EVENTS_BYTES_MAX, "France"), reply_to=TO))
    assert answer is not None
    assert (answer.body.version, answer.body.count, answer.body.events) == (1, 1, ())


def test_a_parked_command_is_remembered_from_when_it_was_decided() -> None:
    answers = ReplyTable(Idempotency(window_s=3600, records=10), SPEC, memory_store())
    give(answers, (5, 1_000), (20, 2_000))
    commit(answers)
    give_late(answers, 3, (20, 2_000))
    give_late(answers, 1, (20, 2_000))
    commit(answers)
    assert [known(answers, n, 29, 3_000) for n in (1, 3, 20)] == [True] * 3
    give(answers, (30, 4_000))
    assert [known(answers, n, 30, 4_000) for n in (1, 3, 20, 30)] == [False, False, False, True]
    commit(answers)
    rows = answers.store.scan(answers.prefix, answers.prefix, 100)
    places = answers.store.scan(ORDER, ORDER, 100)
    assert (len(rows), len(places)) == (1, 1), "nothing is left of what is forgotten"


def test_a_restored_memory_has_the_same_places() -> None:
    idempotency = Idempotency(window_s=3600, records=10)
    owner, copy = ReplyTable(idempotency, SPEC, memory_store()), memory_store()
    give(owner, (5, 1_000))
    give_late(owner, 3, (8, 2_000))
    pairs = owner.changes()
    commit(owner)
    copy.write(reply_rows(SPEC, copy, pairs), {})
    assert not trim_copy(idempotency, SPEC, copy, pairs[-1][1] or b"")
    assert copy.scan(b"", b"", 100) == owner.store.scan(b"", b"", 100)
    assert ReplyTable(idempotency, SPEC, copy).latest_ms == 2_000


def test_what_was_read_ahead_does_not_hide_a_place_before_it() -> None:
    answers = ReplyTable(Idempotency(window_s=3600, records=10), SPEC, memory_store())
    give(answers, (1, 1_000))
    commit(answers)
    give_late(answers, 7, (9, 1_000))
    commit(answers)
    answers.expire_up_to(10, 1_500)  # reads ahead
    give_late(answers, 2, (9, 1_000))
    commit(answers)
    answers.expire_up_to(40, 2_000)
    commit(answers)
    assert answers.store.scan(ORDER, ORDER, 100) == []

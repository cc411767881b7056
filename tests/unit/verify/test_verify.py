"""The history checker on histories in memory: an undamaged one is clean, any damage to it is found."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.adapters.avro.registry import Registry
from pipeline.demo.commands import Asked
from pipeline.engine.ports import TP
from pipeline.model import Aggregate, CommandMessage, Projection, Service
from pipeline.topology import Topology, load
from pipeline.verify import Entry, Finding, Report, judge
from pipeline.verify.sources.history import Stored
from tests.helpers.histories import PARTITIONS, MemoryHistory, Raw
from tests.unit.test_purity import ROOT, imports
from topologies import inventory as inv
from topologies import orders as o
from topologies import users as u

WHOLE = load("topologies")
# Without the checkouts, which the histories' few lines do not know: what they ask is asked here by hand.
SHOP = replace(WHOLE.only("users", "inventory", "payments", "orders", "reports"), name="shop", invariants=())
CODES, PEOPLE = ("TEA", "POT", "CUP"), ("anna", "bob")
AT = "2009-12-01T10:00:00"

codes, people, small = st.sampled_from(CODES), st.sampled_from(PEOPLE), st.integers(-2, 9)
countries = st.sampled_from(["France", "Spain", ""])
lines = st.lists(st.builds(o.Line, codes, st.integers(0, 3), st.integers(1, 3)), max_size=3).map(tuple)
stock = st.builds(inv.ReceiveStock, small) | st.builds(inv.AdjustStock, small, st.just("found"))
papers = st.builds(o.PlaceOrder, people, countries, st.just(AT), lines)
papers |= st.builds(o.ReturnGoods, people, countries, st.just(AT), lines)
checkouts = st.sampled_from(["t1", "t2"])
papers |= st.builds(o.HoldOrder, checkouts) | st.builds(o.ConfirmOrder, checkouts)
papers |= st.builds(o.RefuseOrder, checkouts, st.just("why"))
stock |= st.builds(inv.ReserveStock, checkouts, small) | st.builds(inv.TakeReserved, checkouts)
stock |= st.builds(inv.ReleaseStock, checkouts)
accounts = st.builds(u.RegisterUser, people, countries) | st.builds(u.ChangeCountry, countries)
garbage = st.builds(
    Raw, st.sampled_from(["inventory", "orders"]), st.sampled_from([b"TEA", None]), st.binary(max_size=9)
)
asked = st.one_of(
    st.builds(Asked, st.just("inventory"), codes, stock),
    st.builds(Asked, st.just("inventory"), codes, st.just(inv.RegisterProduct("a thing"))),
    st.builds(Asked, st.just("orders"), st.sampled_from("123456"), papers),
    st.builds(Asked, st.just("users"), people, accounts),
    garbage,
)
requests = st.lists(asked, max_size=30)
thorough = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def line(code: str, quantity: int) -> o.Line:
    return o.Line(code, quantity, 1500)


USUAL: list[Asked | Raw] = [
    *[Asked("inventory", code, inv.RegisterProduct(code)) for code in CODES],
    *[Asked("inventory", code, inv.ReceiveStock(10)) for code in CODES],
    Raw("inventory", b"JUG", b"no Avro"),
    *[Asked("users", name, u.RegisterUser(name, "France")) for name in PEOPLE],
    *[Asked("orders", str(n), o.PlaceOrder("anna", "France", AT, (line("TEA", n), line("POT", 1)))) for n in (1, 2, 3)],
    *[Asked("orders", n, step(f"t{n}")) for n in "123" for step in (o.HoldOrder, o.ConfirmOrder)],
    *[Asked("inventory", "TEA", inv.ReserveStock(f"t{n}", n)) for n in (1, 2, 3)],
    *[Asked("inventory", "TEA", inv.TakeReserved(f"t{n}")) for n in (1, 2)],
    Asked("orders", "4", o.ReturnGoods("bob", "Spain", AT, tuple(line(code, 1) for code in CODES))),
    Asked("users", "anna", u.ChangeCountry("Spain")),
    Asked("users", "anna", u.RegisterUser("anna", "Spain")),
    Asked("inventory", "TEA", inv.AdjustStock(-100, "lost")),
]


def settled(*parts: list[Asked | Raw]) -> MemoryHistory:
    history = MemoryHistory(SHOP)
    for part in parts:
        history.send(part)
        history.run()
    return history


def kinds(report: Report) -> set[str]:
    return set(report.found)


def one(report: Report, kind: str) -> Finding:
    """The only finding of that kind."""
    assert report.found[kind] == 1, report.findings
    return next(finding for finding in report.findings if finding.kind == kind)


# --- undamaged --------------------------------------------------------------------------------------------------------


def test_what_was_checked_is_counted() -> None:
    history = settled(USUAL)
    history.send([Asked("users", "anna", u.ChangeCountry("France"))], ids=["again"])
    history.send([Asked("users", "anna", u.ChangeCountry("France"))], ids=["again"])
    history.send([Asked("users", "anna", u.ChangeCountry("Spain"))], ids=["again"])
    history.run()
    report = judge(history, SHOP)
    assert report.clean, report.findings
    assert report.checked["commands"] == len(USUAL) - 1 + 10 + 3  # 10 by the reactions
    assert report.checked["commands sent on"] == 3 * 2 + 4  # two products of each order; three, and a refund
    assert report.checked["parked"] == 1
    assert report.checked["answered again"] == 1
    rejected = {"inventory/not_prepared": 3}  # none of the pots was reserved
    assert report.rejected == rejected | {
        "users/already_registered": 1,
        "inventory/out_of_stock": 1,
        "users/id_reused": 1,
    }
    assert report.lag == {"users": 0, "orders": 0, "inventory": 0, "payments": 0, "reports": 0}


@thorough
@given(requests, requests)
def test_a_history_without_damage_is_clean(first: list[Asked | Raw], second: list[Asked | Raw]) -> None:
    report = judge(settled(first, second), SHOP)
    assert report.clean, report.findings


@thorough
@given(requests, st.integers(0, 6), st.integers(0, 6))
def test_one_that_goes_on_while_it_is_read_is_clean(sent: list[Asked | Raw], before: int, while_read: int) -> None:
    history = MemoryHistory(SHOP)
    history.send(sent)
    history.run(before)
    history.bounds = dict(history.offsets)
    history.run(while_read)
    report = judge(history, SHOP)
    assert report.clean, report.findings


@thorough
@given(requests, requests, st.data())
def test_one_whose_old_commands_were_deleted_is_clean(
    first: list[Asked | Raw], second: list[Asked | Raw], data: st.DataObject
) -> None:
    history = settled(first, second)
    for tp in sorted(history.logs):
        if tp.topic.endswith((".command", ".by_key", ".parked")):
            cut(history, tp, data.draw(st.integers(0, history.ends[tp]), label=str(tp)))
    report = judge(history, SHOP)
    assert report.clean, report.findings


def cut(history: MemoryHistory, tp: TP, low: int) -> None:
    history.logs[tp] = [entry for entry in history.logs[tp] if entry.offset >= low]
    history.lows[tp] = low


def test_after_a_cut_what_is_left_is_still_judged() -> None:
    history = settled(USUAL, [Asked("inventory", "TEA", inv.AdjustStock(1, "found"))])
    commands = history.place("inventory.command", b"TEA")
    cut(history, commands, history.logs[commands][-1].offset)
    assert judge(history, SHOP).clean
    log = history.logs[history.place("inventory.event", b"TEA")]
    last = [entry for entry in log if entry.key == b"TEA"][-1]
    log.remove(last)
    report = judge(history, SHOP)
    assert kinds(report) == {"missing_event"}
    assert one(report, "missing_event").key == "TEA"
    assert any("begins at" in note for note in report.notes)


def test_tables_are_given_time_to_catch_up() -> None:
    class Late(MemoryHistory):
        def wait(self) -> bool:
            self.tables["inventory", tp.partition]["TEA"] = row
            return True

    history = Late(SHOP)
    history.send(USUAL)
    history.run()
    tp = history.place("inventory.command", b"TEA")
    row = history.tables["inventory", tp.partition].pop("TEA")
    assert judge(history, SHOP).clean


# --- damaged ----------------------------------------------------------------------------------------------------------


def replaced(history: MemoryHistory, tp: TP, at: int, **changes: Any) -> Entry:
    """The record at index `at` with its decoded value changed."""
    codec = history.codec[tp.topic]
    entry = history.logs[tp][at]
    message = codec.decode(entry.value)
    changed = message._replace(**changes) if hasattr(message, "_replace") else dataclasses.replace(message, **changes)
    history.logs[tp][at] = after = entry._replace(value=codec.encode(changed))
    return after


def again(history: MemoryHistory, tp: TP, entry: Entry) -> Entry:
    history.append(tp, entry.key, entry.value, entry.headers)
    return history.logs[tp][-1]


def index(history: MemoryHistory, tp: TP, key: bytes, nth: int = -1) -> int:
    """Where the nth record of a key stands."""
    return [n for n, entry in enumerate(history.logs[tp]) if entry.key == key][nth]


def test_an_event_twice() -> None:
    history = settled(USUAL)
    tp = history.place("inventory.event", b"TEA")
    planted = again(history, tp, history.logs[tp][index(history, tp, b"TEA", 0)])
    report = judge(history, SHOP)
    assert kinds(report) == {"duplicate_event", "version_repeated"}
    found = one(report, "duplicate_event")
    assert (found.service, found.topic, found.partition) == ("inventory", *tp)
    assert (found.key, found.offset, found.version) == ("TEA", planted.offset, 1)


def test_an_event_missing() -> None:
    history = settled(USUAL)
    tp = history.place("inventory.event", b"TEA")
    after = history.logs[tp][index(history, tp, b"TEA", 2)]
    del history.logs[tp][index(history, tp, b"TEA", 1)]
    report = judge(history, SHOP)
    assert kinds(report) == {"missing_event", "version_gap"}
    assert one(report, "missing_event")[4:6] == ("TEA", None)
    assert one(report, "missing_event").version == 2
    assert one(report, "version_gap").offset == after.offset


@pytest.mark.parametrize("change", [{"time_ms": 5}, {"command_id": "x"}, {"body": inv.StockReceived(11)}])
def test_an_event_altered(change: dict[str, Any]) -> None:
    history = settled(USUAL)
    tp = history.place("inventory.event", b"TEA")
    altered = replaced(history, tp, index(history, tp, b"TEA", 1), **change)
    report = judge(history, SHOP)
    assert kinds(report) == {"wrong_event"}
    wrong = one(report, "wrong_event")
    assert wrong.offset == altered.offset
    assert [each.field.partition(".")[0] for each in wrong.fields] == list(change)


def test_a_version_skipped() -> None:
    history = settled(USUAL)
    tp = history.place("orders.event", b"4")
    altered = replaced(history, tp, index(history, tp, b"4"), version=2)
    report = judge(history, SHOP)
    assert {"version_gap", "extra_event", "missing_event"} <= kinds(report)
    assert one(report, "version_gap").offset == altered.offset


def test_events_in_another_order() -> None:
    history = settled(USUAL)
    tp = history.place("inventory.event", b"TEA")
    log = history.logs[tp]
    a, b = index(history, tp, b"TEA", 1), index(history, tp, b"TEA", 2)
    log[a], log[b] = log[b]._replace(offset=log[a].offset), log[a]._replace(offset=log[b].offset)
    report = judge(history, SHOP)
    assert "event_order" in kinds(report)
    assert one(report, "event_order").offset == log[a].offset


def test_an_event_whose_command_is_not_committed() -> None:
    history = settled(USUAL)
    tp = history.place("inventory.command", b"TEA")
    history.offsets["inventory", tp] = history.logs[tp][index(history, tp, b"TEA", 0)].offset
    assert "extra_event" in kinds(judge(history, SHOP))


def test_a_command_in_the_wrong_partition() -> None:
    history = settled(USUAL)
    right = history.place("users.command", b"anna")
    message = CommandMessage("m", "m", None, 1, u.ChangeName("x"))
    value = history.codec["users.command"].encode(message)
    history.append(TP("users.command", 1 - right.partition), b"anna", value)
    history.run()
    assert one(judge(history, SHOP), "misplaced").key == "anna"


@pytest.mark.parametrize(
    ("topic", "key", "what", "change"),
    [
        ("inventory.state", "TEA", "state", {"version": 1}),
        ("inventory.state", "TEA", "state", {"body": inv.Stock(True, "TEA", on_hand=1)}),
        ("customers.row", "anna", "row", {"spent": 1}),
        ("revenue.row", "France/2009-12-01", "row", {"orders": 7}),
    ],
)
def test_a_wrong_value_on_a_changelog(topic: str, key: str, what: str, change: dict[str, Any]) -> None:
    history = settled(USUAL)
    tp = history.place(topic, key.encode())
    at = index(history, tp, key.encode())
    altered = replaced(history, tp, at, **change)
    report = judge(history, SHOP)
    assert kinds(report) == {f"wrong_{what}"}
    assert one(report, f"wrong_{what}")[3:6] == (tp.partition, key, altered.offset)
    history.logs[tp] = [entry for entry in history.logs[tp] if entry.key != key.encode()]
    assert kinds(judge(history, SHOP)) == {f"missing_{what}"}
    history.append(tp, b"nobody", altered.value)
    assert kinds(judge(history, SHOP)) == {f"missing_{what}", f"extra_{what}"}
    history.append(tp, b"nobody", None)
    history.append(tp, key.encode(), b"\0rubbish")
    assert kinds(judge(history, SHOP)) == {"unreadable"}


@pytest.mark.parametrize("table", ["inventory", "customers", "customer_countries"])
def test_a_wrong_table(table: str) -> None:
    history = settled(USUAL)
    partition = next(n for n in range(PARTITIONS) if history.tables[table, n])
    rows = history.tables[table, partition]
    key = min(rows)
    right = rows.pop(key)
    report = judge(history, SHOP)
    assert kinds(report) == {"missing_table_row"}
    assert one(report, "missing_table_row")[2:5] == (table, partition, key)
    rows[key] = {**right, "row": {**right["row"], next(iter(right["row"])): "other"}}
    assert one(judge(history, SHOP), "wrong_table_row").key == key
    rows[key] = right
    rows["nobody"] = right
    assert one(judge(history, SHOP), "extra_table_row").key == "nobody"


def test_a_reactions_command_missing_twice_or_wrong() -> None:
    history = settled(USUAL)
    tp = history.place("inventory.command", b"POT")
    at = index(history, tp, b"POT")
    lost = history.logs[tp].pop(at)
    report = judge(history, SHOP)
    assert {"missing_command", "extra_event"} <= kinds(report)
    assert one(report, "missing_command")[2:6] == (*tp, "POT", None)
    history.logs[tp].insert(at, lost)
    second = again(history, tp, lost)
    report = judge(history, SHOP)
    assert kinds(report) == {"duplicate_command"}
    assert one(report, "duplicate_command").offset == second.offset
    history.logs[tp].pop()
    replaced(history, tp, at, correlation_id="x")
    wrong = one(judge(history, SHOP), "wrong_command")
    assert wrong.offset == lost.offset
    assert [(each.field, each.found) for each in wrong.fields] == [("command.correlation_id", '"x"')]


def test_a_reactions_command_that_no_event_asks_for() -> None:
    history = settled(USUAL)
    message = CommandMessage("stock_follows_orders/99/1/0", "c", "orders.event/99/1", 1, inv.TakeStock("99", 1))
    tp = history.place("inventory.command", b"TEA")
    history.append(tp, b"TEA", history.codec[tp.topic].encode(message))
    report = judge(history, SHOP)
    assert kinds(report) == {"extra_command"}
    assert one(report, "extra_command").offset == history.logs[tp][-1].offset
    assert report.lag["inventory"] == 1


def test_a_message_twice_or_missing() -> None:
    history = settled(USUAL)
    tp = history.place("units_sold.by_key", b"TEA")
    at = index(history, tp, b"TEA", 0)
    second = again(history, tp, history.logs[tp][at])
    report = judge(history, SHOP)
    assert kinds(report) == {"duplicate_message"}
    assert one(report, "duplicate_message")[4:6] == ("TEA", second.offset)
    history.logs[tp].pop()
    del history.logs[tp][at]
    report = judge(history, SHOP)
    assert kinds(report) == {"missing_message", "wrong_row", "wrong_table_row"}
    assert one(report, "missing_message").key == "TEA"


def test_messages_in_another_order() -> None:
    history = settled(USUAL)
    tp = history.place("units_sold.by_key", b"TEA")
    log = history.logs[tp]
    orders = [b"1", b"2", b"3"]
    same = [n for n in range(3) for m in range(n) if history.place("x", orders[n]) == history.place("x", orders[m])]
    assert same, "two of three orders share one of two partitions"
    a, b = [n for n, entry in enumerate(log) if entry.key == b"TEA"][0::2]
    log[a], log[b] = log[b]._replace(offset=log[a].offset), log[a]._replace(offset=log[b].offset)
    assert "disordered_message" in kinds(judge(history, SHOP))


def test_parked_twice_or_not_at_all_or_for_no_reason() -> None:
    history = settled(USUAL)
    tp = history.place("inventory.parked", b"p")
    notice = history.logs[tp][0]
    second = again(history, tp, notice)
    report = judge(history, SHOP)
    assert kinds(report) == {"duplicate_parked", "unordered_queue"}
    assert one(report, "duplicate_parked")[1:6] == ("inventory", *tp, "JUG", second.offset)
    history.logs[tp] = []
    report = judge(history, SHOP)
    assert kinds(report) == {"missing_parked", "extra_queued"}, "it waits, and nothing says why"
    found = one(report, "missing_parked")
    assert (found.topic, found.key, str(found.offset).encode()) == ("inventory.command", "JUG", notice.headers[3][1])
    history.logs[tp] = [notice._replace(value=b"altered")]
    report = judge(history, SHOP)
    assert kinds(report) == {"wrong_parked"}
    assert [(each.field, each.found) for each in one(report, "wrong_parked").fields] == [("value", "\"b'altered'\"")]
    headers = (*notice.headers, ("parked-source-offset", b"0"))
    history.logs[tp] = [notice, notice._replace(headers=headers)]
    assert "needless_parked" in kinds(judge(history, SHOP))
    history.logs[tp] = [notice, notice._replace(headers=())]
    assert kinds(judge(history, SHOP)) == {"unreadable_parked"}


def test_an_offset_outside_its_log() -> None:
    history = settled(USUAL)
    tp = TP("orders.command", 0)
    history.offsets["orders", tp] = history.ends[tp] + 1
    found = one(judge(history, SHOP), "offset")
    assert (found.topic, found.partition, found.offset) == (*tp, history.ends[tp] + 1)


@pytest.mark.parametrize(
    ("off", "changelog_off", "kind"),
    [(0, 0, None), (-1, 0, "behind_table"), (1, 0, "ahead_table"), (0, 1, "ahead_table")],
)
def test_a_store_behind_or_ahead_of_what_was_committed(off: int, changelog_off: int, kind: str | None) -> None:
    history = settled(USUAL)
    tp = history.place("users.command", b"anna")
    changelog = TP("users.state", tp.partition)
    positions = {changelog.topic: history.end(changelog) + changelog_off}
    history.stores = {tp: Stored((history.bound("users", tp) or 0) + off, positions)}
    report = judge(history, SHOP)
    assert kinds(report) == ({kind} if kind else set())
    assert report.checked["stores"] == 1
    if kind:
        assert one(report, kind)[1:4] == ("users", *(changelog if changelog_off else tp))


def test_an_event_log_that_was_cut() -> None:
    history = settled(USUAL)
    cut(history, TP("users.event", 0), 1)
    assert "log_cut" in kinds(judge(history, SHOP, ("users",)))


def test_the_first_findings_of_each_kind_are_kept_and_all_are_counted() -> None:
    history = settled(USUAL)
    for tp in list(history.logs):
        if tp.topic == "inventory.state":
            history.logs[tp] = []
    report = judge(history, SHOP, limit=2)
    assert report.found == {"missing_state": 3}
    assert len(report.findings) == 2
    assert report.as_json()["found"] == {"missing_state": 3}


# --- any damage at all ------------------------------------------------------------------------------------------------

CHANGELOGS = (".state", ".row")


def places(history: MemoryHistory) -> list[tuple[str, TP, int]]:
    """Each single damage that shows: what is done to the record at an index of a log."""
    found = []
    for tp, log in sorted(history.logs.items()):
        for n, entry in enumerate(log):
            later = [other for other in log[n + 1 :] if other.key == entry.key]
            if tp.topic.endswith(CHANGELOGS):
                if not later:
                    found += [("drop", tp, n), ("alter", tp, n)]
                elif later[-1].value != entry.value:
                    found.append(("duplicate", tp, n))  # an old value after the last
            elif tp.topic.endswith(".queue"):
                found.append(("drop", tp, n))
            elif tp.topic.endswith(".command"):
                if b"_follows_orders/" in (entry.value or b""):
                    found += [("drop", tp, n), ("alter", tp, n), ("duplicate", tp, n)]
            else:
                found += [("drop", tp, n), ("alter", tp, n), ("duplicate", tp, n)]
                if tp.topic.endswith(".event") and later:
                    found.append(("reorder", tp, n))
    return found


def damage(history: MemoryHistory, what: str, tp: TP, n: int) -> None:
    log = history.logs[tp]
    entry = log[n]
    if what == "drop":
        del log[n]
    elif what == "duplicate":
        again(history, tp, entry)
    elif what == "reorder":
        m = next(m for m in range(n + 1, len(log)) if log[m].key == entry.key)
        log[n], log[m] = log[m]._replace(offset=entry.offset), entry._replace(offset=log[m].offset)
    elif tp.topic.endswith(".parked"):
        log[n] = entry._replace(value=b"altered")
    else:
        log[n] = entry._replace(value=altered(history, tp, entry))


def altered(history: MemoryHistory, tp: TP, entry: Entry) -> bytes:
    """Another value that can be read."""
    codec = history.codec[tp.topic]
    message = codec.decode(entry.value)
    if hasattr(message, "_replace"):
        field = "issued_ms" if tp.topic.endswith(".command") else "time_ms"
        return codec.encode(message._replace(**{field: getattr(message, field) + 1}))
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if isinstance(value, (int, str)):
            other = value + "." if isinstance(value, str) else not value if value is True else value + 1
            return codec.encode(dataclasses.replace(message, **{field.name: other}))
        if isinstance(value, tuple) and value:
            return codec.encode(dataclasses.replace(message, **{field.name: value[1:]}))
    from topologies.reports import Spent

    return codec.encode(Spent(1))


EXPECTED = {
    ".event": {"missing_event", "wrong_event", "duplicate_event", "event_order"},
    ".state": {"missing_state", "wrong_state"},
    ".replies": {"missing_reply", "wrong_reply", "duplicate_reply"},
    ".row": {"missing_row", "wrong_row"},
    ".command": {"missing_command", "wrong_command", "duplicate_command"},
    ".by_key": {"missing_message", "extra_message", "duplicate_message"},
    ".queue": {"missing_queued"},
    ".parked": {"missing_parked", "wrong_parked", "duplicate_parked"},
}


def id_of(tp: TP, key: bytes) -> str:
    """The id that a finding about a record of that key names."""
    return key[4 : 4 + key[3]].decode() if tp.topic.endswith((".replies", ".queue")) else key.decode()


@thorough
@given(requests, st.data())
def test_any_single_damage_is_found(sent: list[Asked | Raw], data: st.DataObject) -> None:
    history = settled(USUAL, sent)
    what, tp, n = data.draw(st.sampled_from(places(history)))
    key = history.logs[tp][n].key
    damage(history, what, tp, n)
    report = judge(history, SHOP, limit=1000)
    expected = EXPECTED["." + tp.topic.rpartition(".")[2]]
    found = [finding for finding in report.findings if finding.kind in expected]
    assert found, (what, tp, n, report.findings)
    assert any(finding.key is None or key is None or finding.key == id_of(tp, key) for finding in found)


def test_a_topology_of_one_service_can_be_judged_alone() -> None:
    topology = Topology("users", {"users": SHOP.services["users"]}, SHOP.schemas)
    assert judge(settled(USUAL), topology).clean


# --- a projection keyed like its source, whose rows come and go -------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Put:
    amount: int


@dataclasses.dataclass(frozen=True)
class Gone:
    amount: int


@dataclasses.dataclass(frozen=True)
class Sum:
    amount: int


def record(name: str, *fields: tuple[str, object]) -> dict[str, object]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields]}


@pytest.fixture
def tills(tmp_path: Path) -> Topology:
    amount = ("amount", "long")
    text = [(name, "string") for name in ("id", "correlation_id")]
    command = [*text, ("causation_id", ["null", "string"]), ("issued_ms", "long"), ("body", [record("Put", amount)])]
    command += [("expected_version", ["null", "long"]), ("reply_to", ["null", "string"]), ("due_ms", ["null", "long"])]
    event = [("version", "long"), ("command_id", "string"), ("correlation_id", "string"), ("time_ms", "long")]
    state = [("version", "long"), ("time_ms", "long"), ("body", record("Sum", amount))]
    schemas = {
        "till.command": record("Command", *command),
        "till.event": record("Event", *event, ("body", [record("Gone", amount)])),
        "till.state": record("State", *state),
        "full.row": record("Sum", amount),
    }
    for topic, schema in schemas.items():
        (tmp_path / f"{topic}.avsc").write_text(json.dumps(schema))
    Registry(tmp_path).register()
    till = Aggregate("till", Put, Gone, Sum(0), lambda c, s: [Gone(c.amount)], lambda s, e: Sum(s.amount + e.amount))
    full = Projection("full", [till.events], Sum(0), lambda row, e: Sum(s) if (s := row.amount + e.amount) else None)
    service = Service("tills", aggregates=[till], projections=[full])
    return Topology(str(tmp_path), {"tills": service}, tmp_path)


def test_rows_that_are_deleted(tills: Topology) -> None:
    history = MemoryHistory(tills)
    for amount in (3, -3):
        history.send([Asked("till", key, Put(amount)) for key in ("a", "b")])
        history.run()
    history.send([Asked("till", "b", Put(5))])
    history.run()
    assert judge(history, tills).clean
    tp = history.place("full.row", b"a")
    log = list(history.logs[tp])
    history.logs[tp] = [entry for entry in log if entry.key != b"a"]  # compacted away
    assert judge(history, tills).clean
    history.logs[tp] = [entry for entry in log if entry.key != b"a" or entry.value]
    assert one(judge(history, tills), "extra_row").key == "a"
    history.logs[tp] = log
    history.append(history.place("full.row", b"b"), b"b", None)
    assert one(judge(history, tills), "missing_row").key == "b"


def test_a_function_that_raises_is_a_finding(tills: Topology) -> None:
    history = MemoryHistory(tills)
    history.send([Asked("till", "a", Put(3))])
    history.run()
    (till,) = tills.services["tills"].aggregates
    broken = dataclasses.replace(till, decide=lambda command, state: 1 / 0)
    service = dataclasses.replace(tills.services["tills"], aggregates=[broken])
    report = judge(history, Topology("x", {"tills": service}, tills.schemas))
    assert (one(report, "raised").topic, one(report, "raised").offset) == ("till.command", 0)


def test_it_shares_no_code_with_what_it_judges() -> None:
    for path in (ROOT / "pipeline" / "verify").rglob("*.py"):
        engine = {name for name in imports(path.read_text()) if name.startswith(("pipeline.engine", "pipeline.worker"))}
        assert engine <= {"pipeline.engine.ports"}, path
        assert "pipeline.adapters.avro.codec" not in imports(path.read_text()), path

"""One request followed through the logs: nothing of it is missing, nothing else is there, and it reads well."""

from __future__ import annotations

import io
import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from rich.console import Console

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord, UnknownAggregate, UnknownKey
from pipeline.explain import logs
from pipeline.explain.run import tell
from pipeline.explain.show import show
from pipeline.explain.steps import Kind
from pipeline.explain.story import Story
from pipeline.model import Acceptance, CommandMessage, EventMessage, Parked, Rejected, ReplyMessage, TopicKind
from pipeline.testing import TestDriver
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.topology import Topology
from pipeline.verify.sources.history import Entry
from topologies import inventory, orders, users

HOSTILE = "[/x] [bold]b[/bold] :smile: \x1b[2J\x9b31m \r\n \u202e"
LAMP, TEA = orders.Line("LAMP", 2, 1500), orders.Line("TEA", 2, 1500)


class Retold(SimulatedHistory):
    """A history whose records a test can take away or change."""

    changed: Any = staticmethod(lambda tp, entry: entry)

    def records(self, tp: TP) -> Iterator[Entry]:
        changed = (self.changed(tp, entry) for entry in super().records(tp))
        return (entry for entry in changed if entry is not None)


@pytest.fixture(scope="module")
def driver(shop_topology: Topology) -> Iterator[TestDriver]:
    with TestDriver(shop_topology) as driver:
        driver.send("inventory", "LAMP", inventory.RegisterProduct("a lamp"), inventory.ReceiveStock(10))
        driver.send("inventory", "TEA", inventory.RegisterProduct("tea"), inventory.ReceiveStock(1))
        driver.send("users", "anna", users.RegisterUser("Anna", "France", "anna@example.org"))
        for number, lines, way in (
            ("1", (LAMP,), "saga"),
            ("2", (LAMP, TEA), "saga"),
            ("3", (LAMP,), "2pc"),
            ("4", (LAMP, TEA), "2pc"),
            ("11", (LAMP,), "saga"),  # its saga's id begins like that of order 1
            ("9", (), "saga"),
        ):
            driver.send("orders", number, orders.PlaceOrder("anna", "", "2009-12-01T10:00", lines, way))
        driver.send("users", "nasty", users.RegisterUser(HOSTILE, "France"))
        yield driver


@pytest.fixture(scope="module")
def history(driver: TestDriver) -> Retold:
    return Retold(driver._world)


@pytest.fixture
def told(history: Retold, shop_topology: Topology) -> Iterator[Any]:
    registry = Registry(shop_topology.schemas)
    yield lambda *asked: tell(history, shop_topology, registry, *asked)
    history.changed = lambda tp, entry: entry


def page(story: Story, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(console, story)
    return console.file.getvalue()  # type: ignore[attr-defined]


def read(driver: TestDriver, topic: str) -> Iterator[tuple[str, str, Any]]:
    """Key, partition/offset and message of each command or event of a topic, by the engine's own codecs."""
    for n, log in enumerate(driver._world.kafka.topics[topic].logs):
        for record in log.archive:
            if record.decided and record.value() is not None:
                message = driver._oracle.codec[topic].decode(record.value())
                if isinstance(message, CommandMessage | EventMessage):
                    yield record.key().decode(), f"{n}/{record.offset()}", message


def at(each: Any) -> tuple[TP, int]:
    return each.tp, each.entry.offset


def test_an_order_is_followed_through_all_services(told: Any) -> None:
    story = told("orders", "1")
    assert story.services == ["orders", "checkout_saga", "inventory", "payments", "reports"]
    assert [type(step.command.message.body).__name__ for step in story.steps if step.kind is not Kind.ANSWER] == [
        *("PlaceOrder", "BeginCheckout", "ReserveStock", "HoldOrder", "Authorise"),
        *("ConfirmOrder", "Capture", "TakeReserved"),
    ]
    for step in story.steps:
        assert (step.cause is None) == (step.number == 1)
        assert [cause.number < step.number for cause in step.causes] == [True] * (step.number > 1)
        assert step.state is not None
    rows = {row.table: row.fields for row in story.rows}
    assert rows.keys() == {"revenue", "units_sold", "largest_orders", "customers"}
    assert [cause.command.message.body for row in story.rows for cause in row.causes] == [orders.ConfirmOrder("1")] * 4
    assert rows["revenue"]["orders"] == 3  # it is the row of now, with the later orders 3 and 11 in it
    assert story.notes == []


def test_it_says_which_request_is_shown_and_how_to_see_another(told: Any) -> None:
    first = page(told("inventory", "LAMP", 1)).splitlines()
    assert first[0].startswith("inventory LAMP: 1 step through inventory")
    assert first[1].startswith("the request, behind event 1 of ")
    assert first[1].endswith("; behind another event: --version N")
    assert page(told("users", "anna")).splitlines()[1] == (
        "the last request, behind event 1 of 1; behind another event: --version N"
    )


@pytest.mark.parametrize("key", ["1", "2", "3", "4"])
def test_all_that_an_order_has_caused_is_found_and_nothing_else(told: Any, driver: TestDriver, key: str) -> None:
    """Held against what the causes and ids of all records say, whatever their correlation ids are."""
    nodes, near = {}, defaultdict(set)
    for name in ("users", "user_emails", "orders", "inventory", "payments", "checkout_saga", "checkout_2pc"):
        for topic in (f"{name}.command", f"{name}.event"):
            for at, offset, message in read(driver, topic):
                is_event = hasattr(message, "version")
                node = nodes[topic, at, message.version if is_event else message.id] = object()
                names = [(name, at, message.command_id if is_event else message.id)]
                names += [f"{topic}/{at}/{message.version}"] if is_event else [f"{topic}/{offset}"]
                names += [] if is_event or message.causation_id is None else [message.causation_id]
                for each in names:
                    near[each].add(node)
                    near[node].add(each)
    reached, todo = set(), [f"orders.event/{key}/1"]
    while todo:
        if (each := todo.pop()) not in reached:
            reached.add(each)
            todo += near[each]
    expected = sorted(name for name, node in nodes.items() if node in reached)
    assert len(expected) > 15
    found = [each for step in told("orders", key).steps for each in (step.command, *step.events)]
    assert sorted((f.tp.topic, f.key, getattr(f.message, "version", f.message[0])) for f in found) == expected


@pytest.mark.parametrize("key", ["1", "2", "3", "4"])
def test_all_that_an_order_has_caused_has_its_correlation_id(told: Any, key: str) -> None:
    steps = told("orders", key).steps
    assert {"orders", "inventory"} < {step.owner.name for step in steps}
    found = [each.message for step in steps for each in (step.command, *step.events)]
    assert {message.correlation_id for message in found} == {steps[0].command_id}


def test_logs_of_before_replies_carried_it_are_followed(
    told: Any, history: Retold, driver: TestDriver, shop_topology: Topology
) -> None:
    """There a saga's later steps had `<saga>/<key>` as their correlation id."""
    whole = [(step.owner.name, step.command_id) for step in told("orders", "1").steps]
    sagas = {"checkout_saga", "inventory", "payments", "orders"}
    topics = {f"{name}.{kind}" for name in sagas for kind in ("command", "event")}

    replies = codecs(shop_topology.schemas)(TopicKind.REPLY.value, ReplyMessage, Acceptance | Rejected | Parked)

    def older(tp: TP, entry: Entry) -> Entry:
        if tp.topic not in topics or entry.value is None:
            return entry
        with suppress(UndecodableRecord):
            return entry._replace(value=replies.encode(replies.decode(entry.value)._replace(correlation_id=None)))
        codec = driver._oracle.codec[tp.topic]
        message = codec.decode(entry.value)
        asked = (message.id if isinstance(message, CommandMessage) else message.command_id).removeprefix("reply:")
        if not asked.startswith("checkout_saga/"):
            return entry
        name, saga_key = asked.split("/")[:2]
        return entry._replace(value=codec.encode(message._replace(correlation_id=f"{name}/{saga_key}")))

    history.changed = older
    again = told("orders", "1").steps
    assert [(step.owner.name, step.command_id) for step in again] == whole
    assert len({each.command.message.correlation_id for each in again}) == 2


@pytest.mark.parametrize("key", ["2", "4"])
def test_what_was_refused_is_shown_with_what_undoes_it(told: Any, key: str) -> None:
    story = told("orders", key)
    refused = [step for step in story.steps if step.rejected is not None]
    assert [(step.owner.name, step.key, step.rejected.reason) for step in refused] == [
        ("inventory", "TEA", "out_of_stock")
    ]
    assert refused[0].events == []
    commands = [step.command.message.body for step in story.steps]
    transaction = refused[0].command.message.body.transaction
    assert inventory.ReleaseStock(transaction) in commands
    assert orders.RefuseOrder(transaction, "out_of_stock") in commands
    assert not story.rows
    text = page(story)
    assert "REFUSED by inventory: out_of_stock, on_hand 1" in text
    if key == "2":
        undone = [step.command.message.body for step in story.steps if step.kind is Kind.UNDO]
        assert undone == [orders.RefuseOrder(key, "out_of_stock"), inventory.ReleaseStock(key)]


def test_whichever_part_is_asked_for_the_story_is_the_whole(told: Any) -> None:
    whole = told("orders", "1")
    parts = [("orders", "1", version) for version in (1, 2, 3)] + [("checkout_saga", "1")]
    for asked in (*parts, ("inventory", "LAMP", 4), ("payments", "anna", 2)):
        assert [step.command_id for step in told(*asked).steps] == [step.command_id for step in whole.steps], asked


def test_a_transaction_is_named_by_its_mark(told: Any, history: Retold) -> None:
    for step in told("orders", "2").steps:
        for event in step.events:
            there = {entry.offset for entry in history.records(event.tp)}
            assert event.marker not in there  # it is no record that a reader is given
            assert event.entry.offset < event.marker <= history.end(event.tp)
            assert there.issuperset(range(event.entry.offset, event.marker))


def test_a_copy_and_a_unique_value_are_part_of_it(told: Any) -> None:
    story = told("users", "anna")
    assert [(step.kind, step.owner.name) for step in story.steps] == [
        (Kind.REQUEST, "users"),
        (Kind.RESERVATION, "user_emails"),
    ]
    assert [(row.service, row.table, row.is_replica) for row in story.rows] == [
        ("orders", "customer_countries", True),
        ("reports", "customers", False),
    ]


def test_a_command_that_was_refused_at_once_is_found_by_its_key(told: Any) -> None:
    (step,) = told("orders", "9").steps
    assert step.rejected.reason == "no_lines"
    assert "REFUSED by orders: no_lines" in page(told("orders", "9"))


def test_what_is_not_there_is_said(told: Any) -> None:
    with pytest.raises(UnknownAggregate, match="no aggregate 'order'; there are checkout_2pc, "):
        told("order", "1")
    with pytest.raises(UnknownKey, match="orders '77' has no command or event in the logs; pipeline query orders"):
        told("orders", "77")
    with pytest.raises(UnknownKey, match="orders '1' has no event 4"):
        told("orders", "1", 4)


def test_what_retention_has_deleted_or_damage_has_hidden_is_said(told: Any, history: Retold) -> None:
    deleted = told("orders", "1").steps[0]
    history.changed = lambda tp, entry: None if (tp, entry.offset) == at(deleted.command) else entry
    story = told("orders", "1")
    assert (len(story.steps), story.steps[0].command) == (13, None)
    assert f"the command {deleted.command_id} is no longer in the log" in page(story)
    history.changed = lambda tp, entry: (
        entry._replace(value=entry.value[:-1]) if (tp, entry.offset) == at(deleted.events[0]) else entry
    )
    (note,) = told("orders", "1").notes
    assert note.startswith("orders.event/1@0 cannot be read: ")


def test_a_request_without_end_is_cut_and_says_so(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FOUND_MAX", 5)
    story = told("orders", "1")
    assert sum(bool(step.command) + len(step.events) for step in story.steps) == 5
    assert any(note.startswith("there is more: only ") for note in story.notes)


@pytest.mark.parametrize("width", [20, 40, 80, 300])
def test_a_page_fits_its_terminal(told: Any, width: int) -> None:
    text = page(told("orders", "2"), width)
    assert "\x1b" not in text
    assert text.count("A saga asks each owner") + text.count("A saga asks") >= 1
    for line in text.splitlines():
        assert len(line) <= min(width, 100) or " " not in line.strip(), line  # a word longer than a line stays whole


def test_text_of_users_is_shown_and_not_obeyed(told: Any) -> None:
    text = page(told("users", "nasty"), 300)
    assert [c for c in text if unicodedata.category(c) in ("Cc", "Cf") and c != "\n"] == []
    assert "[/x] [bold]b[/bold] :smile:" in text


def test_a_machine_gets_all_of_it(told: Any) -> None:
    story = told("orders", "2")
    read = json.loads(json.dumps(story.as_json()))
    assert [step["number"] for step in read["steps"]] == list(range(1, len(story.steps) + 1))
    first = read["steps"][0]
    assert first["command"]["messages"][0]["type"] == "PlaceOrder"
    assert first["command"]["messages"][0]["lines"][0] == {"code": "LAMP", "quantity": 2, "price": 1500}
    assert (first["command"]["topic"], first["command"]["key"]) == ("orders.command", "2")
    assert first["events"][0]["version"] == 1
    assert [step["rejected"] for step in read["steps"] if step["rejected"]] == [
        {"reason": "out_of_stock", "details": {"on_hand": "1"}}
    ]

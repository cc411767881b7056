"""What other code has decided or parked is no finding where that is known, and is counted where it is not judged."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from rich.console import Console

from pipeline.client.wire.as_of import parse_time
from pipeline.demo.commands import Asked
from pipeline.engine.ports import TP
from pipeline.engine.state.parked_table import row_key
from pipeline.model import Acceptance, Aggregate, CommandMessage, Rejected, ReplyMessage
from pipeline.topology import Topology
from pipeline.verify import judge
from pipeline.verify.checks.parked import MENDED
from pipeline.verify.show import show
from tests.helpers.histories import MemoryHistory, Raw
from tests.unit.verify.test_verify import SHOP, USUAL, kinds, one, requests, settled, thorough
from topologies import inventory as inv


def with_inventory(change: Callable[[Aggregate[Any, Any, Any]], Aggregate[Any, Any, Any]]) -> Topology:
    """The shop, with that part of its code changed."""
    service = SHOP.services["inventory"]
    changed = replace(service, aggregates=[change(aggregate) for aggregate in service.aggregates])
    return replace(SHOP, services={**SHOP.services, "inventory": changed})


def doubling(aggregate: Aggregate[Any, Any, Any]) -> Aggregate[Any, Any, Any]:
    """As it was decided once: stock counts double."""

    def decide(command: Any, state: Any) -> Any:
        if isinstance(command, inv.ReceiveStock):
            command = inv.ReceiveStock(2 * command.quantity)
        return aggregate.decide(command, state)

    return replace(aggregate, decide=decide)


def decided_twice(first: list[Asked | Raw], second: list[Asked | Raw]) -> tuple[MemoryHistory, int]:
    """A history that earlier code has decided the first part of, and when present code began."""
    history = MemoryHistory(with_inventory(doubling))
    history.send(first)
    history.run()
    history.topology = SHOP
    history.now_ms += 1_000
    began_ms = history.now_ms
    history.send(second)
    history.run()
    return history, began_ms


def test_what_earlier_code_has_decided_is_counted_where_it_is_told_since_when_present_code_decides() -> None:
    later = [Asked("inventory", "TEA", inv.ReceiveStock(3)), Asked("inventory", "POT", inv.AdjustStock(2, "found"))]
    history, began_ms = decided_twice(USUAL, later)
    assert "wrong_event" in kinds(judge(history, SHOP))
    report = judge(history, SHOP, decided_since_ms=began_ms)
    assert report.clean, report.findings
    (number,) = report.not_judged.values()
    before = sum(
        tp.topic.endswith(".command") and e.time_ms < began_ms for tp, log in history.logs.items() for e in log
    )
    assert number == before > len(USUAL)
    assert report.as_json()["not_judged"] == dict(report.not_judged)


def test_a_changed_decide_is_named_as_the_likely_cause_with_the_moment_from_which_all_is_right() -> None:
    history, _ = decided_twice(USUAL, [Asked("inventory", "TEA", inv.ReceiveStock(3))])
    report = judge(history, SHOP)
    cause = report.likely_cause
    assert cause is not None
    assert report.as_json()["likely_cause"] == cause
    (moment,) = re.findall(r"add --decided-since (\S+),", cause)
    assert judge(history, SHOP, decided_since_ms=parse_time(moment)).clean
    fields = [field for each in report.findings if each.kind == "wrong_reply" for field in each.fields]
    assert ("outcome.events[0].body.quantity", "10", "20") in fields, "events are decoded"
    shown = Console(width=80, file=StringIO())
    show(shown, report)
    assert "--decided-since" in shown.file.getvalue()


def test_a_changed_decide_is_named_where_no_replies_are_kept() -> None:
    history, _ = decided_twice(USUAL, [])
    for tp, log in history.logs.items():
        if tp.topic == "inventory.replies":
            log.clear()
    assert judge(history, SHOP).likely_cause


@pytest.mark.parametrize("lost", ["event", "reply", "altered"])
def test_a_real_fault_is_not_laid_to_a_changed_decide(lost: str) -> None:
    history = settled(USUAL)
    tp = history.place("inventory.event", b"TEA")
    if lost == "event":
        history.logs[tp] = [entry for entry in history.logs[tp] if entry.key != b"TEA"]
    elif lost == "altered":
        codec = history.codec["inventory.event"]
        at = next(n for n, entry in enumerate(history.logs[tp]) if entry.key == b"TEA")
        entry = history.logs[tp][at]
        event = codec.decode(entry.value)
        history.logs[tp][at] = entry._replace(value=codec.encode(event._replace(time_ms=event.time_ms - 1)))
    else:  # it says what nothing in the log agrees with
        codec, replies = history.codec["inventory.replies"], history.logs[TP("inventory.replies", tp.partition)]
        at = next(n for n, each in enumerate(replies) if isinstance(codec.decode(each.value).body, Acceptance))
        damaged = codec.decode(replies[at].value)._replace(body=Rejected("out_of_stock"))
        replies[at] = replies[at]._replace(value=codec.encode(damaged))
    report = judge(history, SHOP)
    assert not report.clean
    assert report.likely_cause is None, report.findings


def test_what_present_code_has_decided_is_still_judged() -> None:
    history, began_ms = decided_twice(USUAL, [Asked("inventory", "TEA", inv.ReceiveStock(3))])
    log = history.logs[history.place("inventory.event", b"TEA")]
    lost = [entry for entry in log if entry.key == b"TEA"][-1]
    log.remove(lost)
    report = judge(history, SHOP, decided_since_ms=began_ms)
    assert one(report, "missing_event").key == "TEA"


@thorough
@given(requests, requests)
def test_whatever_earlier_code_has_decided(first: list[Asked | Raw], second: list[Asked | Raw]) -> None:
    history, began_ms = decided_twice(first, second)
    report = judge(history, SHOP, decided_since_ms=began_ms)
    assert report.clean, report.findings


def test_a_command_that_was_not_folded_yet_is_judged_however_old() -> None:
    history = settled(USUAL)
    tp = history.place("inventory.command", b"TEA")
    waiting = [entry for entry in history.logs[tp] if entry.key == b"TEA"][-1]
    history.bounds = {**history.offsets, ("inventory", tp): waiting.offset}
    report = judge(history, SHOP, decided_since_ms=history.now_ms + 1)
    assert report.clean, report.findings
    assert report.checked["commands"] == 0  # none below the bound
    assert sum(report.not_judged.values()) == sum(
        len([entry for entry in log if place != tp or entry.offset < waiting.offset])
        for place, log in history.logs.items()
        if place.topic.endswith(".command")
    )


def test_a_command_that_earlier_code_could_not_decide_and_was_redriven_since() -> None:
    """Stored before, and decided between two that are judged."""
    history, began_ms = decided_twice(USUAL, [Asked("inventory", "TEA", inv.ReceiveStock(n)) for n in (1, 2, 3)])
    tp, codec = history.place("inventory.event", b"TEA"), history.codec["inventory.event"]
    at = [n for n, entry in enumerate(history.logs[tp]) if entry.key == b"TEA"][-2]
    event = codec.decode(history.logs[tp][at].value)
    redriven = event._replace(command_id="waited", time_ms=began_ms - 500)
    history.logs[tp][at] = history.logs[tp][at]._replace(value=codec.encode(redriven))
    assert {"missing_event", "wrong_event"} & kinds(judge(history, SHOP, decided_since_ms=began_ms))
    commands = history.logs[TP("inventory.command", tp.partition)]
    gone = next(entry for entry in commands if event.command_id.encode() in (entry.value or b""))
    commands.remove(gone)
    replies, reply = history.logs[TP("inventory.replies", tp.partition)], history.codec["inventory.replies"]
    replies[:] = [entry for entry in replies if reply.decode(entry.value).offset != gone.offset]
    report = judge(history, SHOP, decided_since_ms=began_ms)
    assert report.clean, report.findings


@pytest.mark.parametrize("action", ["redriven", "discarded", None])
def test_a_record_that_earlier_code_could_not_read(action: str | None) -> None:
    """Parked as undecodable; this code can read it, and an operator has had it decided."""
    history = settled(USUAL)
    tp = history.place("inventory.command", b"JUG")
    at = next(n for n, entry in enumerate(history.logs[tp]) if entry.key == b"JUG")
    command = CommandMessage("late", "late", None, 7, inv.AdjustStock(-1, "lost"))
    value = history.codec["inventory.command"].encode(command)
    history.logs[tp][at] = entry = history.logs[tp][at]._replace(value=value)
    notices = history.place("inventory.parked", b"p")
    (notice,) = history.logs[notices]
    history.logs[notices] = [notice._replace(value=value)]
    if action is not None:
        redrive(history, tp, entry.offset, action)
    report = judge(history, SHOP)
    assert kinds(report) == (set() if action else {"needless_parked"}), report.findings
    assert report.checked[MENDED] == (action is not None)


def redrive(history: MemoryHistory, tp: TP, offset: int, action: str) -> None:
    """What the engine leaves behind where a command that is rejected was redriven or discarded at the log's end."""
    end = history.logs[tp][-1]
    told = {"action": action, "source-topic": tp.topic, "source-partition": tp.partition, "source-offset": offset}
    told |= {"done": "", "at": end.offset, "at-ms": end.time_ms, "by": "op", "why": "mended"}
    headers = tuple((f"parked-{name}", str(value).encode()) for name, value in told.items())
    history.append(history.place("inventory.parked", b"p"), b"JUG", None, headers)
    queue = TP("inventory.inventory.command.queue", tp.partition)
    history.append(queue, row_key(b"JUG", offset), None)
    why = Rejected("unknown_product") if action == "redriven" else Rejected("discarded", {"by": "op", "why": "mended"})
    stored = next(entry for entry in history.logs[tp] if entry.offset == offset)
    place = tp.partition, offset, 7, stored.time_ms
    reply = ReplyMessage("late", "inventory", *place, 0, why, end.offset, end.time_ms)
    value = history.codec["inventory.replies"].encode(reply)
    history.append(TP("inventory.replies", tp.partition), (3).to_bytes(4, "big") + b"JUGlate", value)

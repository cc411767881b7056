"""The pure steps of history: a state as of a version, the version of a time, what differs between two states."""

import pytest

from pipeline.errors import HistoryIncomplete
from pipeline.flow import ABSENT, Difference, event_to_state, events_to_state, state_difference, version_at
from pipeline.model import EventMessage, StateMessage
from topologies import inventory as inv

EVENTS = [
    EventMessage(1, "c1", "corr", 100, inv.ProductRegistered("TEA")),
    EventMessage(2, "c2", "corr", 200, inv.StockReceived(5)),
    EventMessage(3, "c3", "corr", 200, inv.StockReceived(7)),
    EventMessage(4, "c4", "corr", 300, inv.StockTaken("o1", 2)),
]


def test_no_events_leave_the_state_as_it_is() -> None:
    known = StateMessage(7, 1, inv.Stock(True, "TEA"))
    assert events_to_state(inv.inventory, b"k", None, []) is None
    assert events_to_state(inv.inventory, b"k", known, []) is known


@pytest.mark.parametrize("split", range(5))
def test_folding_on_from_any_version_comes_to_the_same(split: int) -> None:
    base = events_to_state(inv.inventory, b"k", None, EVENTS[:split])
    state = events_to_state(inv.inventory, b"k", base, EVENTS[split:])
    assert state == StateMessage(4, 300, inv.Stock(True, "TEA", on_hand=10, received=12, taken=2))


def test_it_is_the_same_as_one_event_after_the_other() -> None:
    state = None
    for event in EVENTS:
        state = event_to_state(inv.inventory, b"k", state, event)
    assert events_to_state(inv.inventory, b"k", None, EVENTS) == state


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_version_is_not_folded_over(missing: int) -> None:
    with pytest.raises(HistoryIncomplete, match=f"version {missing + 1} is missing"):
        events_to_state(inv.inventory, b"k", None, EVENTS[:missing] + EVENTS[missing + 1 :])


@pytest.mark.parametrize(
    ("time_ms", "version"), [(0, 0), (99, 0), (100, 1), (199, 1), (200, 3), (299, 3), (300, 4), (10**15, 4)]
)
def test_the_version_of_a_time_is_that_of_the_last_event_not_later(time_ms: int, version: int) -> None:
    assert version_at(time_ms, 1, 4, lambda v: EVENTS[v - 1].time_ms) == version


def test_the_version_of_a_time_before_all_that_is_held() -> None:
    assert version_at(150, 3, 4, lambda v: EVENTS[v - 1].time_ms) == 2


def test_the_version_of_a_time_takes_few_questions() -> None:
    asked: list[int] = []
    assert version_at(70_000, 1, 100_000, lambda v: asked.append(v) or v) == 70_000  # type: ignore[func-returns-value]
    assert len(asked) <= 17


def test_of_times_that_step_back_the_next_event_is_later() -> None:
    times = {1: 100, 2: 300, 3: 200, 4: 400}
    for time_ms in range(50, 450, 50):
        version = version_at(time_ms, 1, 4, times.__getitem__)
        assert version == 0 or times[version] <= time_ms
        assert version == 4 or times[version + 1] > time_ms


def test_equal_states_have_no_difference() -> None:
    state = {"a": 1, "lines": [{"code": "TEA"}], "note": None}
    assert list(state_difference(state, dict(state))) == []


@pytest.mark.parametrize(
    ("before", "after", "differences"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, [Difference("b", 2, 3)]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 4]}}, [Difference("a.b[1]", 2, 4)]),
        ({"a": [1]}, {"a": [1, {"x": 2}]}, [Difference("a[1]", ABSENT, {"x": 2})]),
        ({"a": [1, 2]}, {"a": []}, [Difference("a[0]", 1, ABSENT), Difference("a[1]", 2, ABSENT)]),
        ({"gone": 1}, {"new": None}, [Difference("gone", 1, ABSENT), Difference("new", ABSENT, None)]),
        ({"a": None}, {"a": {"b": 1}}, [Difference("a", None, {"b": 1})]),
        ({"a": True}, {"a": 1}, [Difference("a", True, 1)]),
        (1, 2, [Difference("", 1, 2)]),
    ],
)
def test_what_differs_is_named(before: object, after: object, differences: list[Difference]) -> None:
    assert list(state_difference(before, after)) == differences

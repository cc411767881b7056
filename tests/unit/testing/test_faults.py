"""The fault plans: their text, their determinism, and the points around the calls of a port."""

import multiprocessing
import os
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.ports import TP, Polled
from pipeline.errors import LaneFatal, OutcomeUnknown, TransactionAborted
from pipeline.testing.faults import PLACES, Faults, Firing, Plan, Rule
from pipeline.testing.points import POINTS, pointed

HOLD = TP("t", 0)


class Spy:
    """Answers any call with its name and notes it."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.called.append(name) or name


def fired(plan: str, *, actions: dict[str, Any] | None = None) -> tuple[Faults, list[Firing]]:
    noted: list[Firing] = []
    return Faults(Plan.parse(plan), noted.append, actions or dict.fromkeys(PLACES, lambda _: None)), noted


places = st.sampled_from([(point, action) for action in PLACES for point in POINTS if PLACES[action](point)])


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    point, action = draw(places)
    first = draw(st.integers(1, 50))
    last = draw(st.none() | st.integers(first, first + 50))
    return Rule(point, action, draw(st.sampled_from(["*", "orders"])), first, last, draw(st.floats(0.001, 1)))


@given(st.builds(Plan, st.lists(rules(), max_size=4).map(tuple), st.integers(0, 1000)))
def test_a_plan_is_what_its_text_says(plan: Plan) -> None:
    assert Plan.parse(str(plan)) == plan


@pytest.mark.parametrize(
    "text",
    [
        "producer.commit:after",  # no action
        "producer.commit:after=explode",
        "producer.comit:after=kill",  # no such point
        "producer.commit=kill",  # neither before nor after
        "producer.commit:after=abort",  # what is committed cannot be aborted
        "producer.begin:after=abort",
        "store.write:before=unknown",
        "producer.flush:after@0=kill",
        "producer.flush:after@5-4=kill",
        "producer.flush:after%1.5=kill",
    ],
)
def test_a_plan_that_cannot_happen_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the messages are for people
        Plan.parse(text)


def test_the_points_that_the_engine_is_tested_at_exist() -> None:
    wanted = {"producer.flush:after", "producer.commit:after", "store.write:before", "reader.poll:after"}
    wanted |= {"listener.revoked:before", "listener.assigned:after", "consumer.poll:before", "consumer.committed:after"}
    assert wanted <= set(POINTS)


def test_it_fires_at_the_calls_named_in_the_lane_named_and_nowhere_else() -> None:
    faults, noted = fired("orders/producer.flush:after@3=kill; producer.flush:before@2-3=abort")
    for lane in ("orders", "users"):
        producer = pointed("producer", Spy(), faults.of(lane))
        for _ in range(5):
            producer.flush(1.0)
    assert [str(firing) for firing in noted] == [
        "orders/producer.flush:before@2=abort",
        "orders/producer.flush:before@3=abort",
        "orders/producer.flush:after@3=kill",
        "users/producer.flush:before@2=abort",
        "users/producer.flush:before@3=abort",
    ]


def test_chance_is_the_plans_alone() -> None:
    plan = Plan.by_chance(7, 0.1)
    schedule = [plan.fires("orders", point, call) for point in POINTS for call in range(100)]
    again = [Plan.parse(str(plan)).fires("orders", point, call) for point in POINTS for call in range(100)]
    other = [Plan.by_chance(8, 0.1).fires("orders", point, call) for point in POINTS for call in range(100)]
    assert schedule == again != other
    share = sum(firing is not None for firing in schedule) / len(schedule)
    assert 0.08 < share < 0.12


def test_chance_keeps_to_the_points_that_allow_the_action() -> None:
    plan = Plan.by_chance(1, 1.0, "abort")
    assert {point for point in POINTS if plan.fires("users", point, 1)} == {p for p in POINTS if PLACES["abort"](p)}


def test_calls_go_through_and_what_no_rule_touches_is_left_alone() -> None:
    faults, noted = fired("producer.commit:before@1=kill")
    inner = Spy()
    producer = pointed("producer", inner, faults.of("orders"))
    assert producer.flush(1.0) == "flush"
    assert producer.commit({HOLD: 1}, object(), 1.0) == "commit"
    assert producer.purge() == "purge"  # what the port does not know is the adapter's own
    assert inner.called == ["flush", "commit", "purge"]
    assert len(noted) == 1


class Consumer(Spy):
    def subscribe(self, topics: list[str], listener: Any) -> None:
        self.listener = listener

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        self.listener.assigned([HOLD])
        self.listener.revoked([HOLD])
        return Polled()


class Stores:
    def open(self, name: str) -> Spy:
        return Spy()


def test_listeners_and_stores_have_their_points_too() -> None:
    faults, noted = fired("listener.*:*=stop; store.write:*=kill; reader.poll:after=kill")
    consumer, listener = pointed("consumer", Consumer(), faults.of("orders")), Spy()
    consumer.subscribe(["t"], listener)
    consumer.poll(1, 0)
    pointed("stores", Stores(), faults.of("orders")).open("s").write([], {})
    pointed("reader", Spy(), faults.of("orders")).poll(1, 0)
    assert listener.called == ["assigned", "revoked"]
    assert [firing.point for firing in noted] == [
        "listener.assigned:before",
        "listener.assigned:after",
        "listener.revoked:before",
        "listener.revoked:after",
        "store.write:before",
        "store.write:after",
        "reader.poll:after",
    ]


@pytest.mark.parametrize(
    ("plan", "error", "carried_out"),
    [
        ("producer.commit:before=abort", TransactionAborted, []),
        ("producer.commit:before=fatal", LaneFatal, []),
        ("producer.commit:after=unknown", OutcomeUnknown, ["commit"]),
    ],
)
def test_what_the_lane_is_told(plan: str, error: type[Exception], carried_out: list[str]) -> None:
    inner = Spy()
    producer = pointed("producer", inner, Faults(Plan.parse(plan)).of("orders"))
    with pytest.raises(error, match="injected: orders/"):
        producer.commit({}, object(), 1.0)
    assert inner.called == carried_out


def _flush(plan: str) -> None:
    pointed("producer", Spy(), Faults(Plan.parse(plan)).of("orders")).flush(1.0)


def test_kill_and_stop_are_what_they_say() -> None:
    killed = multiprocessing.get_context("fork").Process(target=_flush, args=("producer.flush:after=kill",))
    killed.start()
    killed.join(30)
    assert killed.exitcode == -signal.SIGKILL
    stopped = multiprocessing.get_context("fork").Process(target=_flush, args=("producer.flush:after=stop",))
    stopped.start()
    assert os.WIFSTOPPED(os.waitpid(stopped.pid or 0, os.WUNTRACED)[1])
    os.kill(stopped.pid or 0, signal.SIGCONT)
    stopped.join(30)
    assert stopped.exitcode == 0

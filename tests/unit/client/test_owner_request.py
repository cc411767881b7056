"""Whom a client asks, and when it asks again: the steps alone, with a clock and a router of the test's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.client.owner_request import RETRY_S, Answer, Blocking, HttpCall, OwnerRequest, Sleep, Steps, problem_of
from pipeline.errors import NotParked, TableUnavailable


class World:
    """Workers that answer by turns, and time that passes as a client sleeps."""

    def __init__(self, *answers: Answer | None, workers: dict[str, list[str]]) -> None:
        self.answers, self.now_s, self.asked, self.forgotten = list(answers), 0.0, [], 0  # type: ignore[var-annotated]
        self.router: Any = SimpleNamespace(
            topology=SimpleNamespace(name="books", services=workers),
            workers=lambda service: workers[service],
            forget_all=self.forget,
        )
        self.asking = OwnerRequest(self.router, lambda: self.now_s, 1.0)

    def forget(self) -> None:
        self.forgotten += 1

    def run(self, steps: Steps[Answer]) -> Answer:
        told: Any = None
        while True:
            try:
                step = steps.send(told)
            except StopIteration as done:
                answer: Answer = done.value
                return answer
            match step:
                case Sleep(seconds):
                    self.now_s, told = self.now_s + seconds, None
                case Blocking(function):
                    told = function()
                case HttpCall():
                    self.asked.append(step)
                    told = self.answers.pop(0)


def test_any_worker_is_asked_until_one_answers() -> None:
    gone, moving = None, Answer(503, {"error": "TableUnavailable", "detail": "it moves"}, {})
    found = Answer(404, {"error": "NotParked", "detail": "nothing waits"}, {})
    world = World(gone, moving, found, workers={"none": [], "books": ["http://b"], "tills": ["http://t"]})
    call = HttpCall("http://b", "/v1/parked", {"limit": "5"}, 60.0, {"by": "eve"})
    assert world.run(world.asking.of_any("/v1/parked", {"limit": "5"}, timeout_s=60.0, body={"by": "eve"})) == found
    assert (world.asked, world.now_s, world.forgotten) == ([call] * 3, 2 * RETRY_S, 2)
    assert isinstance(problem_of(found), NotParked)


@pytest.mark.parametrize(
    ("workers", "says"),
    [({"books": []}, "no worker runs; start one with"), ({"books": ["http://b"]}, "http://b does not")],
)
def test_where_nobody_answers_patience_ends(workers: dict[str, list[str]], says: str) -> None:
    world = World(*[None] * 100, workers=workers)
    with pytest.raises(TableUnavailable, match=says):
        world.run(world.asking.of_any("/v1/parked", {}, timeout_s=60.0))
    assert 1.0 < world.now_s <= 1.0 + 2 * RETRY_S


def test_another_program_at_a_workers_address_is_no_worker() -> None:
    page, answer = Answer(200, None, {"Content-Type": "text/html"}), Answer(200, {"parked": []}, {})
    world = World(page, answer, workers={"books": ["http://b"]})
    assert world.run(world.asking.of_any("/v1/parked", {}, timeout_s=60.0)) == answer
    assert world.forgotten == 1
    world = World(*[page] * 100, workers={"books": ["http://b"]})
    with pytest.raises(TableUnavailable, match="what answers at http://b is no worker"):
        world.run(world.asking.of_any("/v1/parked", {}, timeout_s=60.0))

"""Which services are held is looked up at their workers, seldom, and never stands in the way."""

from __future__ import annotations

from typing import Any

from pipeline.client.holds import FRESH_S, Holds
from pipeline.client.owner_request import Answer, Blocking, HttpCall
from pipeline.drive import drive
from pipeline.errors import TableUnavailable


class Cluster:
    """Workers by service, and what their status says; a worker without one does not respond."""

    def __init__(self, workers: dict[str, list[str]], status: dict[str, Any]) -> None:
        self._workers, self._status = workers, status
        self.now, self.asked = 0.0, 0
        self._holds = Holds(self, lambda: self.now)  # type: ignore[arg-type]

    def workers(self, service: str) -> list[str]:
        if service not in self._workers:
            raise TableUnavailable("the broker does not answer")
        return self._workers[service]

    def _do(self, step: Any) -> Any:
        match step:
            case Blocking(function):
                return function()
            case HttpCall(url, "/v1/status"):
                self.asked += 1
                return Answer(200, self._status[url], {}) if url in self._status else None

    def of(self, *services: str) -> dict[str, str]:
        return drive(self._holds.of(services), self._do)


def test_a_hold_is_found_at_any_worker_of_the_service() -> None:
    cluster = Cluster(
        {"users": ["gone", "a", "b", "b"], "orders": ["b"], "reports": []},
        {"a": {"users": {"held_why": ""}}, "b": {"users": {"held_why": "too much raised"}, "orders": {"held_why": ""}}},
    )
    assert cluster.of("users", "orders", "reports", "unknown", "users") == {"users": "too much raised"}


def test_thousands_that_give_up_at_once_ask_once() -> None:
    cluster = Cluster({"users": ["a"]}, {"a": {"users": {"held_why": "why"}}})
    for _ in range(1000):
        assert cluster.of("users") == {"users": "why"}
    assert cluster.asked == 1
    cluster.now += FRESH_S
    cluster.of("users")
    assert cluster.asked == 2

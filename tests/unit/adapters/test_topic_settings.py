"""Settings of topics are changed once a broker answers with them: the controller has them before."""

from collections.abc import Iterable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka.admin import ConfigResource

from pipeline.adapters.kafka import topic_settings
from pipeline.adapters.kafka.topic_settings import Difference, mend
from pipeline.errors import TopicError

RETENTION = Difference("bank.event", "retention.ms", "604800000", "-1", loses=True)


def done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


class LateBroker:
    """An admin client whose broker answers with the old value `late` times."""

    def __init__(self, late: int) -> None:
        self.late, self.asked = late, 0

    def incremental_alter_configs(self, resources: Iterable[ConfigResource]) -> dict[ConfigResource, Future[None]]:
        return {resource: done(None) for resource in resources}

    def describe_configs(self, resources: Iterable[ConfigResource], request_timeout: float) -> Any:
        self.asked += 1
        value = RETENTION.found if self.asked <= self.late else RETENTION.wanted
        return {resource: done({RETENTION.setting: SimpleNamespace(value=value)}) for resource in resources}


def test_it_waits_until_the_broker_answers_with_them() -> None:
    broker = LateBroker(late=2)
    mend(broker, [RETENTION])  # type: ignore[arg-type]
    assert broker.asked == 3


def test_a_broker_that_never_does_is_told_by_topic_and_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_settings, "ANSWER_S", 0.1)
    with pytest.raises(TopicError, match=r"bank.event: retention.ms is 604800000"):
        mend(LateBroker(late=1_000_000), [RETENTION])  # type: ignore[arg-type]


def test_nothing_to_change_asks_nothing() -> None:
    broker = LateBroker(late=0)
    mend(broker, [])  # type: ignore[arg-type]
    assert broker.asked == 0

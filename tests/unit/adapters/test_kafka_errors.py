"""A fatal error of the client ends its lane and nothing else, however confluent-kafka tells it."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from pipeline.adapters.kafka import reading
from pipeline.adapters.kafka.client_watch import ProducerWatch, Reach
from pipeline.adapters.kafka.cluster import note, plainly, read_note, read_owners, read_position
from pipeline.adapters.kafka.producing import KafkaProducer
from pipeline.engine.ports import Position
from pipeline.errors import LaneFatal

FATAL = KafkaError(KafkaError._FENCED, "fenced by a newer instance", fatal=True)


def from_within_a_callback(*_: Any, **__: Any) -> Any:
    """What Python makes of a callback that is called while an exception is set."""
    raise SystemError("<function KafkaProducer._delivered> returned a result with an exception set") from (
        KafkaException(FATAL)
    )


def plain(*_: Any, **__: Any) -> Any:
    raise KafkaException(FATAL)


class Client:
    """A confluent-kafka client all of whose calls end so."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __getattr__(self, _: str) -> Any:
        return self._call


class Full(Client):
    def produce(self, *_: Any, **__: Any) -> None:
        raise BufferError


def producer(client: Client) -> KafkaProducer:
    made = object.__new__(KafkaProducer)
    made.name, made._producer, made._last, made._topics = "tills-0", client, {}, {}  # type: ignore[assignment]
    made._nudge = Client(lambda *_: None)  # type: ignore[assignment]
    made._watch, made._slow = ProducerWatch(""), False
    return made


def no_exception(*_: Any, **__: Any) -> None:
    """As confluent-kafka raises a fatal error from within flush: not in an exception, but by itself."""
    for each in (KafkaError, FATAL):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))  # PyErr_Restore takes them over
    ctypes.pythonapi.PyErr_Restore(ctypes.py_object(KafkaError), ctypes.py_object(FATAL), None)


@pytest.mark.parametrize("call", [from_within_a_callback, no_exception, plain])
def test_of_a_producer(call: Any) -> None:
    for client, act in [
        (Client(call), lambda made: made.begin()),
        (Client(call), lambda made: made.flush(1)),
        (Client(call), lambda made: made.abort()),
        (Full(call), lambda made: made.produce("topic", b"k", b"v")),
        (Full(call), lambda made: made.park("topic", b"k", b"v", [])),
        (Full(call), lambda made: made.produce_last("topic", b"k", b"v", 0)),
    ]:
        with pytest.raises(LaneFatal, match="fenced by a newer instance"):
            act(producer(client))
    producer(Client(call)).close()


def no_exception(*_: Any, **__: Any) -> None:
    """As confluent-kafka raises a fatal error from within flush: not in an exception, but by itself."""
    for each in (KafkaError, FATAL):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))  # PyErr_Restore takes them over
    ctypes.pythonapi.PyErr_Restore(ctypes.py_object(KafkaError), ctypes.py_object(FATAL), None)


@pytest.mark.parametrize("call", [from_within_a_callback, no_exception, plain])
def test_of_a_consumer(call: Any) -> None:
    with pytest.raises(LaneFatal, match="fenced by a newer instance"):
        reading.poll(Client(call), Reach(""), 10, 0.0)  # type: ignore[arg-type]


def test_another_system_error_is_fatal_for_the_lane_alone_too() -> None:
    with pytest.raises(KafkaException) as raised, plainly():
        raise SystemError("error return without exception set")
    assert raised.value.args[0].fatal()


@pytest.mark.parametrize("node", ["my.host", "my host", "by:a=1@2"])
def test_a_note_tells_owners_and_changelogs_and_takes_others_notes_for_what_they_are(node: str) -> None:
    changelogs = {"orders.state": (77, 31), "orders.replies": (0, 1)}
    position = Position(5, changelogs, (f"orders-{node}-1",), 2**64 - 1)
    text = note(f"orders-{node}-0", position)
    assert read_position(5, text) == position
    assert read_position(5, "set by hand") == read_position(5, None) == Position(5, {})
    assert read_owners(text) == (f"orders-{node}-0", f"orders-{node}-1")
    assert read_note(text) == changelogs
    assert (read_owners(None), read_owners(""), read_owners("set by hand")) == ((), (), ())

"""One record of any topic: what it is, what it says, the ids that it carries; or why it cannot be read."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.adapters.json.as_written import AsWritten, Said, without_bytes
from pipeline.adapters.json.form import TYPE
from pipeline.client.wire.as_of import iso
from pipeline.engine.state.row_keys import split_key
from pipeline.errors import UndecodableRecord
from pipeline.model import TopicKind, is_barrier

Headers = Sequence[tuple[str, bytes | None]]
NOTICE = "parked-"  # begins the headers of a notice; see parking_log
# Kinds of records that are neither of a topic's own kind nor unreadable.
BARRIER, DELETED, TEXT, UNREAD = "barrier", "deleted", "text", "unreadable"
WITHOUT_SCHEMA = (TopicKind.POSITIONS, TopicKind.VERSIONS, TopicKind.SCHEMAS)
COMPOSED = (TopicKind.REPLIES, TopicKind.DEADLINES, TopicKind.QUEUE)  # keys that begin with that of an aggregate


@dataclass(slots=True)
class Shown:
    """A record. `kind`: that of its topic, or what it is instead. `about`: what stands beside the message.

    `key`: of the aggregate or row; None if there is none. `error`: why the value cannot be read.
    """

    topic: str
    partition: int
    offset: int
    time_ms: int
    kind: str
    key: str | None
    key_base64: str | None
    type: str | None = None
    about: dict[str, Any] = field(default_factory=dict)
    value: Any = None
    error: str | None = None

    @property
    def place(self) -> str:
        """Where it stands, as all commands show it: orders.event/2@31."""
        return f"{self.topic}/{self.partition}@{self.offset}"

    @property
    def time(self) -> str:
        """When it was stored, in UTC."""
        try:
            return iso(self.time_ms)
        except (ValueError, OverflowError, OSError):  # a producer's own time, beyond the year 9999
            return f"{self.time_ms} ms"

    def as_json(self) -> dict[str, Any]:
        """Return it for a machine."""
        return {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "time_ms": self.time_ms,
            "kind": self.kind,
            "key": self.key,
            **({} if self.key_base64 is None else {"key_base64": self.key_base64}),
            TYPE: self.type,
            "about": self.about,
            "value": self.value,
            "error": self.error,
        }


class Reader:
    """Makes records readable. `declared`: the names in the schemas of topics that are called otherwise here."""

    def __init__(self, written: AsWritten, declared: Mapping[str, str]) -> None:
        self._written, self._declared = written, declared

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        time_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
    ) -> Shown:
        """Return a record as it can be shown; one that cannot be read says why."""
        name = self._declared.get(topic, topic)
        kind = TopicKind.of(name)
        shown = Shown(topic, partition, offset, time_ms, TEXT if kind is None else kind.value, *_key(kind, key))
        shown.about |= _name_of_deadline(kind, key)
        if notice := _notice(headers):
            shown.about |= notice
            shown.type = notice.get("action")
            name = notice.get("source_topic", name)
        if is_barrier(value, headers):
            shown.kind = BARRIER
        elif value is None:
            shown.kind = shown.kind if notice else DELETED
        elif kind in WITHOUT_SCHEMA or (value[:1] != b"\0" and kind is None):
            shown.value = _text(value)
        else:
            self._fill(shown, name, kind, value)
        return shown

    def _fill(self, shown: Shown, name: str, kind: TopicKind | None, value: bytes) -> None:
        try:
            said = self._written.read(name, value)
        except UndecodableRecord as error:
            shown.error, shown.value = str(error), _text(value)
            shown.kind = UNREAD if shown.type is None else shown.kind  # the notice itself says why it is parked
            return
        if kind is TopicKind.COMMAND and said.schema == TopicKind.REPLY.value:
            shown.kind = TopicKind.REPLY.value
        shown.type = shown.type or said.type
        shown.about |= without_bytes(said.about)
        shown.value = without_bytes(said.value, self._within(_topic_within(name, said)))

    def _within(self, topic: str) -> Callable[[bytes], Any]:
        """Return what reads bytes that may be a record of that topic."""

        def read(data: bytes) -> Any:
            with suppress(UndecodableRecord):
                said = self._written.read(topic, data)
                return {TYPE: said.type, **without_bytes(said.about), "value": without_bytes(said.value)}
            return b64encode(data).decode()

        return read


def _topic_within(name: str, said: Said) -> str:
    """Return the topic of the records within a record: events in a reply, a command in a deadline, any in a queue."""
    owner = name.rpartition(".")[0]
    if said.schema == TopicKind.QUEUE.value:
        return str(said.value["topic"])
    if said.schema == TopicKind.DEADLINES.value:
        return TopicKind.COMMAND.topic(owner)
    return TopicKind.EVENT.topic(str(said.about.get("aggregate", owner)))


def _key(kind: TopicKind | None, key: bytes | None) -> tuple[str | None, str | None]:
    """Return a key as text, and in base64 if it is none."""
    if key is None:
        return None, None
    if kind in COMPOSED:
        with suppress(ValueError, IndexError):
            key = split_key(key)[0]
    try:
        return key.decode(), None
    except UnicodeDecodeError:
        return None, b64encode(key).decode()


def _name_of_deadline(kind: TopicKind | None, key: bytes | None) -> dict[str, Any]:
    if kind is TopicKind.DEADLINES and key is not None:
        with suppress(ValueError, IndexError):
            return {"name": split_key(key)[1].decode()}
    return {}


def _notice(headers: Headers) -> dict[str, str]:
    found = {name.removeprefix(NOTICE): value for name, value in headers if name.startswith(NOTICE)}
    return {name.replace("-", "_"): (value or b"").decode(errors="replace") for name, value in found.items()}


def _text(value: bytes) -> Any:
    """Return bytes as JSON, as text, or in base64."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}
    try:
        return json.loads(text)
    except ValueError:
        return text

"""Replies of newer code: the schemas that they are written with are looked up on the broker, each once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pipeline.adapters.kafka.schemas.topic import SchemasTopic
from pipeline.client.wire.outcome import Decode
from pipeline.errors import BrokerUnreachable, NotKnownYet, TopicError
from pipeline.model import Acceptance, ReplyMessage

log = logging.getLogger(__name__)
LOOK_S = 5.0
HEADER = 5  # bytes: the mark of the format, and the schema's id


class ReplyReader:
    """Decodes replies, and sees to it that their events can be decoded. For one thread; it may block that."""

    def __init__(self, reply: Decode, events: Mapping[str, Decode], schemas: SchemasTopic) -> None:
        self._reply, self._events, self._schemas = reply, events, schemas
        self._seen: set[tuple[str, bytes]] = set()  # of which aggregate, or "", and the header

    def decode(self, data: bytes | None) -> Any:
        """Return the reply. Raises UndecodableRecord."""
        self._look_up("", data, self._reply)
        reply: ReplyMessage = self._reply(data)
        if isinstance(reply.body, Acceptance) and (decode := self._events.get(reply.aggregate)) is not None:
            for event in reply.body.events:
                self._look_up(reply.aggregate, event, decode)
        return reply

    def _look_up(self, name: str, data: bytes | None, decode: Decode) -> None:
        """Learn the schema of a record, if it is not known and was not looked for before."""
        place = name, (data or b"")[:HEADER]
        if place in self._seen:
            return
        self._seen.add(place)
        try:
            decode(data)
        except NotKnownYet as error:
            if not error.published:
                try:
                    self._schemas.catch_up(LOOK_S)
                except (BrokerUnreachable, TopicError) as away:
                    log.warning("the schema of a reply cannot be looked up: %s", away)
        except Exception:  # who decodes it for its value is told
            pass

"""What decisions have recorded of the copies that they read: collected, before they are made again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.adapters.avro.registry import Registry
from pipeline.errors import InvalidToken
from pipeline.model import Aggregate, EventMessage, Replica, TopicKind
from pipeline.runtime.ports import TP
from pipeline.verify.answers import Reply
from pipeline.verify.copies import PastCopies, Recorded
from pipeline.verify.decode import Decoder, Readable
from pipeline.verify.events import Logged
from pipeline.verify.history import History
from pipeline.verify.report import Finding, Report


class ReadCheck:
    """Knows what one aggregate reads."""

    def __init__(self, service: str, aggregate: Aggregate[Any, Any, Any], registry: Registry) -> None:
        self._service, self._aggregate = service, aggregate
        self._decoders = {
            replica.name: Decoder(registry, replica.source.topic, EventMessage, replica.source.event)
            for replica in aggregate.replicas
        }
        self._past: tuple[History, PastCopies] | None = None

    def recorded(
        self,
        history: History,
        events: TP,
        logs: Mapping[str, Iterable[Logged]],
        replies: Iterable[Reply],
        report: Report,
    ) -> Recorded | None:
        """What the replies and events of a partition say; None where the aggregate reads no copies.

        To be called once these have been read: so all that they name is in the logs that the copies follow. Finding
        `unknown_position` where it is not.
        """
        if not self._aggregate.replicas:
            return None
        past = self._copies(history)
        answers = TP(TopicKind.ANSWERS.topic(self._aggregate.name), events.partition)
        by_reply: dict[int, str | None] = {}
        for reply in replies:
            message = reply.message
            if self._is_known(past, answers, reply.key, reply.entry.offset, message.read, report):
                by_reply[message.offset] = message.read
        by_event: dict[tuple[Any, str, int], str | None] = {}
        for key, log in logs.items():
            for offset, event in log:
                if self._is_known(past, events, key, offset, event.read, report):
                    by_event.setdefault((key, event.command_id, event.time_ms), event.read)
        return Recorded(past, by_reply, by_event)

    def _is_known(self, past: PastCopies, tp: TP, key: str, offset: int, position: str | None, report: Report) -> bool:
        try:
            past.take_in([position])
        except InvalidToken as error:
            expected = "a position of what its service follows"
            report.add(Finding("unknown_position", self._service, *tp, key, offset, expected, str(error)))
            return False
        return True

    def _copies(self, history: History) -> PastCopies:
        """Those of a history; read once for all partitions, as far as they do not have to be read again."""
        if self._past is None or self._past[0] is not history:

            def records(replica: Replica[Any, Any], tp: TP) -> Iterator[tuple[int, str, Any]]:
                for entry, (key, message) in Readable(history, tp, self._decoders[replica.name]):
                    yield entry.offset, key, message.body

            self._past = history, PastCopies(self._aggregate, records, history.partitions, history.end)
        return self._past[1]

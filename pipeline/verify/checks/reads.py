"""What decisions have recorded of the copies that they read: collected, before they are made again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.errors import InvalidToken
from pipeline.model import Aggregate, EventMessage, Replica, TopicKind
from pipeline.verify.checks.events import Logged
from pipeline.verify.checks.replies import Reply
from pipeline.verify.replay.copies import PastCopies, Recorded
from pipeline.verify.report import Finding, Report
from pipeline.verify.sources.decode import Readable, event_decoder
from pipeline.verify.sources.history import History


class ReadCheck:
    """Knows what one aggregate reads."""

    def __init__(self, service: str, aggregate: Aggregate[Any, Any, Any], registry: Registry) -> None:
        self._service, self._aggregate = service, aggregate
        self._decoders = {
            replica.name: event_decoder(registry, replica.source, follows=True) for replica in aggregate.replicas
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
        """What the replies and events of a partition say; None if the aggregate reads no copies.

        To be called once these have been read: so all that they name is in the logs that the copies follow. Finding
        `unknown_position` where it is not.
        """
        if not self._aggregate.replicas:
            return None
        found = Recorded(self.copies(history))
        answers = TP(TopicKind.REPLIES.topic(self._aggregate.name), events.partition)
        for reply in replies:
            with self._judging(answers, reply.key, reply.entry.offset, report):
                found.take_reply(reply.message)
        for key, log in logs.items():
            for offset, event in log:
                with self._judging(events, key, offset, report):
                    found.take_event(key, event)
        return found

    @contextmanager
    def _judging(self, tp: TP, key: str, offset: int, report: Report) -> Iterator[None]:
        try:
            yield
        except InvalidToken as error:
            expected = "a position of what its service follows"
            report.add(Finding("unknown_position", self._service, *tp, key, offset, expected, str(error)))

    def copies(self, history: History) -> PastCopies:
        """Those of a history; read once for all partitions, as far as they do not have to be read again."""
        if self._past is None or self._past[0] is not history:

            def records(replica: Replica[Any, Any], tp: TP) -> Iterator[tuple[int, str, EventMessage]]:
                for entry, (key, message) in Readable(history, tp, self._decoders[replica.name]):
                    yield entry.offset, key, message

            self._past = history, PastCopies(self._aggregate, records, history.partitions, history.end)
        return self._past[1]

"""Decisions of today beside those of then, where an old event has become several events of today, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.model import EventMessage
from pipeline.model.changes.upcasts import Upcast, today

Cause = tuple[str, str, int]  # of an event: its key, its command's id, and when that was stored


class AsRecorded:
    """The events of the commands of which an old one was upcast to none or several. `logs`: all events, by key."""

    def __init__(self, logs: Mapping[str, Sequence[EventMessage]]) -> None:
        self._recorded: dict[Cause, list[EventMessage]] = {}
        for key, log in logs.items():
            causes = {(key, each.command_id, each.time_ms) for each in log if type(each.body) is Upcast}
            for event in log if causes else ():
                if (cause := (key, event.command_id, event.time_ms)) in causes:
                    self._recorded.setdefault(cause, []).append(event)

    def events(self, cause: Cause, decided: list[EventMessage]) -> list[EventMessage]:
        """Return the events of a decision with the versions of then, if those on the log mean the same today.

        Raises UpcastFailed.
        """
        recorded = self._recorded.get(cause)
        if recorded is None:
            return decided
        then = [(part.read, part.body) for event in recorded for part in today(event)]
        return recorded if then == [(event.read, event.body) for event in decided] else decided

"""The history that export files hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipeline.adapters.exported.reading import ExportFile
from pipeline.engine.ports import TP
from pipeline.errors import ExportFileError
from pipeline.flow.command_to_reply import AHEAD_S_MAX
from pipeline.model.records.step_notes import StepNote, StepNotes
from pipeline.verify.sources.history import Entry, Kept, Stored, read_whole


class FileHistory:
    """A `History` over export files, of which each has other topics. It has no tables.

    Raises ExportFileError if two have the same topic.
    """

    ahead_ms = int(1_000 * AHEAD_S_MAX)

    def __init__(self, files: Sequence[ExportFile]) -> None:
        self._files: dict[str, ExportFile] = {}
        for file in files:
            for topic in file.topics:
                if (other := self._files.setdefault(topic, file)) is not file:
                    raise ExportFileError(f"{other.path} and {file.path} both have {topic}; give one of them")

    def topics(self) -> frozenset[str]:
        """Return the topics whose records are there."""
        return frozenset(self._files)

    def may_have_raised(self, decide: Callable[[], object]) -> bool:
        return True  # it may have been other code

    def partitions(self, topic: str) -> int:
        return self._files[topic].topics[topic] if topic in self._files else 0

    def bound(self, service: str, tp: TP) -> int | None:
        return self._folded(service, tp).get("bound")

    def committed(self, service: str, tp: TP) -> int | None:
        return self._folded(service, tp).get("committed")

    def steps(self, service: str, tp: TP) -> StepNotes:
        return {mark: StepNote(*note) for mark, note in self._folded(service, tp).get("steps", {}).items()}

    def _folded(self, service: str, tp: TP) -> dict[str, Any]:
        """What was known of the service's progress on a partition."""
        folded: dict[str, Any] = self._about(tp, "folded").get(service, {})
        return folded

    def low(self, tp: TP) -> int:
        return int(self._about(tp, "low") or 0)

    def end(self, tp: TP) -> int:
        return int(self._about(tp, "end") or 0)

    def _about(self, tp: TP, what: str) -> Any:
        file = self._files.get(tp.topic)
        return {} if file is None else file.about["places"].get(f"{tp.topic}/{tp.partition}", {}).get(what, {})

    def records(self, tp: TP) -> Iterator[Entry]:
        file = self._files.get(tp.topic)
        return iter(()) if file is None else (Entry(*record) for record in file.records(*tp))

    def kept(self, topic: str) -> Kept:
        return read_whole(self, topic)

    def rows(self, table: str, partition: int) -> dict[str, Any] | None:
        return None

    def stored(self, service: str) -> dict[TP, Stored] | None:
        return None

    def wait(self) -> bool:
        return False

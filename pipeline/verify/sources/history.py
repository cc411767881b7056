"""What the checker judges: logs, committed offsets and tables, however they are come by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from pipeline.engine.ports import TP
from pipeline.model.records.step_notes import StepNotes


class Entry(NamedTuple):
    """One committed record, in bytes. `time_ms`: when the broker stored it."""

    offset: int
    key: bytes | None
    value: bytes | None
    time_ms: int
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Kept(NamedTuple):
    """All that a topic holds, partition after partition. `cut`: whether retention has deleted some of it."""

    entries: list[Entry]
    cut: bool


class Stored(NamedTuple):
    """The positions in one local store: next source offset to fold, and where each changelog is contained up to."""

    source: int | None
    changelogs: dict[str, int | None]


class History(Protocol):
    """The past of a topology. It may go on while it is read: what each call gives, and when, is what matters.

    What a service does, it commits together with its source offset. So outputs of all that lies below `bound` are in
    any later answer of `records` and `rows`, and whatever such an answer holds was caused below a later `committed`.
    """

    @property
    def ahead_ms(self) -> int:
        """By how much a worker's clock may have gone ahead of the broker's."""

    def may_have_raised(self, decide: Callable[[], object]) -> bool:
        """Whether the code of the time may have raised on this decision; True if that is not known."""

    def partitions(self, topic: str) -> int: ...
    def bound(self, service: str, tp: TP) -> int | None:
        """What the service had committed before anything else was read; None if nothing."""

    def steps(self, service: str, tp: TP) -> StepNotes:
        """How far each step of the service was at the bound; empty if that is not known."""

    def committed(self, service: str, tp: TP) -> int | None:
        """What the service has committed now, no commit of it being under way."""

    def low(self, tp: TP) -> int:
        """The offset of the first record that the log still holds; above 0 retention has deleted some."""

    def end(self, tp: TP) -> int:
        """Where the log ends now, records of open transactions included."""

    def records(self, tp: TP) -> Iterator[Entry]:
        """All committed records, in order, up to where the log ends at the time of asking."""

    def kept(self, topic: str) -> Kept:
        """All committed records of a small topic, such as a service's notices, which many checks ask for."""

    def rows(self, table: str, partition: int) -> dict[str, Any] | None:
        """Read the rows of a table by key, as its worker answers over HTTP; None if tables are not to be judged."""

    def stored(self, service: str) -> dict[TP, Stored] | None:
        """Read the positions of the service's local stores, by source partition; None if tables are not judged."""

    def wait(self) -> bool:
        """Give tables, which follow the logs, time to catch up; False once enough was given."""


def read_whole(history: History, topic: str) -> Kept:
    """What `kept` answers, read anew."""
    tps = [TP(topic, n) for n in range(history.partitions(topic))]
    cut = any(history.low(tp) for tp in tps)
    return Kept([entry for tp in tps for entry in history.records(tp)], cut)

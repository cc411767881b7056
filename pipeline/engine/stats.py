"""What a lane counts. Plain numbers, written by the lane's thread alone; the web thread reads them for /metrics."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pipeline.engine.ports import Pause
from pipeline.engine.timings import Timings

REASONS_MAX = 200  # of rejections, which are counted apart
OTHER_REASONS = "other"


class Wipe(Enum):
    """Why a local store was thrown away and restored from nothing."""

    OUT_OF_RANGE = "the log no longer holds what it needs next"
    OTHER_TOPIC = "its topic has been deleted and created again"
    TOO_OLD = "it is so old that deletions may be gone from the changelog"
    AHEAD = "it is ahead of its log, so it belongs to another past"
    OTHER_INDEXES = "its indexes are declared otherwise"
    OTHER_REVISION = "its states are those of another revision"
    DAMAGED = "it could not be read"


@dataclass(slots=True)
class LaneStats:
    """Totals since the worker was started."""

    records: int = 0  # folded, of all source topics
    commands: int = 0
    events: int = 0
    rejected: dict[tuple[str, str], int] = field(default_factory=dict)  # by (aggregate, reason)
    late: dict[str, int] = field(default_factory=dict)  # events left out, by projection
    repeated: int = 0  # commands whose id was answered before
    replies: int = 0
    asked: int = 0  # commands that aggregates have sent to others, and wait for the answers of
    scheduled: int = 0  # commands that wait until they are due
    deadlines_set: int = 0
    deadlines_cancelled: int = 0
    deadlines_fired: int = 0  # scheduled commands, too
    deadlines_late_s: float = 0.0  # of those fired, how long after they were due, in all
    deadlines_pending: int = 0  # now, scheduled commands among them
    undeliverable_replies: int = 0
    parked: int = 0  # records put aside for a cause of their own
    misplaced: int = 0  # of these, as their keys belong to other partitions
    redriven: int = 0
    discarded: int = 0
    tried_again: int = 0  # records whose transient error was waited for
    held_keys: int = 0  # keys with records that wait, now
    queued: int = 0  # records that wait, now
    barriers: int = 0  # written by those who read, and stepped over
    skipped_by_replica: int = 0  # undecodable records that a replica could not follow
    replica_keys: dict[str, int] = field(default_factory=dict)  # that replicas hold, now, by replica
    history_events: int = 0  # taken into histories
    skipped_by_history: int = 0  # undecodable records that a history lacks
    checkpoints: int = 0
    aborts: int = 0
    restored: int = 0  # changelog records rolled forward
    reopened: int = 0  # times the lane was closed after an error and opened again
    held_back_s: float = 0.0  # for how long a transaction left open by somebody has held this lane up, now
    loop_late_s: float = 0.0  # the longest that the event loop came too late, within the last minute
    standbys: int = 0  # partitions of other workers that are followed
    histories_building: int = 0  # histories that do not answer yet
    wiped: dict[Wipe, int] = field(default_factory=dict)  # stores thrown away and restored from nothing
    joined: bool = False  # whether the group has assigned partitions, if only none
    assigned: int = 0  # partitions held now
    restoring: int = 0  # of these, not folding yet
    building: dict[str, dict[str, Any]] = field(default_factory=dict)  # by source partition: new steps, and how far
    waiting: dict[str, str] = field(default_factory=dict)  # by reader: before which record it stands, and the cure
    held: int = 0  # 1: too much has raised, and nothing is folded until somebody resumes the service
    held_why: str = ""  # and how to go on
    cache_hits: dict[str, int] = field(default_factory=dict)  # rows found in memory, by table: once a row and commit
    cache_misses: dict[str, int] = field(default_factory=dict)  # rows read from the store, by table
    parked_since_ms: int = 0  # since when the record that has waited longest waits; 0: none does
    opened_s: float = 0.0  # since when the lane's transaction is open, by its clock; 0: none is
    timings: Timings = field(default_factory=Timings)
    paused: int = 0  # partitions of which an operator has nothing folded, now
    paused_why: str = ""  # and how to go on

    def reject(self, aggregate: str, reason: str) -> None:
        """Count a rejection. Reasons beyond a bound are counted together, as a reason may be any text."""
        if (aggregate, reason) not in self.rejected and len(self.rejected) >= REASONS_MAX:
            reason = OTHER_REASONS
        self.rejected[aggregate, reason] = self.rejected.get((aggregate, reason), 0) + 1

    def leave_out(self, projection: str) -> None:
        """Count an event that came too late for its window."""
        self.late[projection] = self.late.get(projection, 0) + 1

    def hold(self, why: str) -> None:
        """Say that the service is held, and why; empty: that it goes on."""
        self.held, self.held_why = int(bool(why)), why

    def cached(self, table: str, hits: int, misses: int) -> None:
        """Count rows that were in memory, or were not, when they were needed."""
        self.cache_hits[table] = self.cache_hits.get(table, 0) + hits
        self.cache_misses[table] = self.cache_misses.get(table, 0) + misses

    def pause(self, service: str, pauses: Sequence[Pause]) -> None:
        """Say which partitions an operator has paused: one pause for each, with who did it and why."""
        self.paused, self.paused_why = len(pauses), ""
        if pauses:
            by, why, _ = pauses[0]
            self.paused_why = f"{service} is paused, by {by}: {why}; go on with: pipeline resume {service}"

    def wipe(self, why: Wipe) -> None:
        """Count a store thrown away."""
        self.wiped[why] = self.wiped.get(why, 0) + 1


class LargestLately:
    """The largest of the values that came within a window; whatever its length, a value costs the same."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._kept: deque[tuple[float, float]] = deque()  # when, and what: those that nothing later has reached

    def add(self, now_s: float, value: float) -> float:
        """Take a value in, and return the largest."""
        kept = self._kept
        while kept and kept[-1][1] <= value:
            kept.pop()
        kept.append((now_s, value))
        while kept[0][0] < now_s - self._window_s:
            kept.popleft()
        return kept[0][1]

"""What a lane counts. Plain numbers, written by the lane's thread alone; the web thread reads them for /metrics."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class LaneStats:
    """Totals since the lane was opened."""

    records: int = 0  # folded, of all source topics
    commands: int = 0
    events: int = 0
    rejected: dict[tuple[str, str], int] = field(default_factory=dict)  # by (aggregate, reason)
    parked: int = 0
    skipped_by_replica: int = 0  # undecodable records that a replica could not follow
    checkpoints: int = 0
    checkpoint_s: float = 0.0
    aborts: int = 0
    restored: int = 0  # changelog records rolled forward
    wiped: int = 0  # stores thrown away and restored from nothing
    assigned: int = 0  # partitions held now
    restoring: int = 0  # of these, not folding yet

    def reject(self, aggregate: str, reason: str) -> None:
        """Counts a rejection."""
        self.rejected[aggregate, reason] = self.rejected.get((aggregate, reason), 0) + 1

"""What the checker says: how much it has checked, and each thing that is not as it must be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SHORT = 160  # characters of a value in a finding


class Finding(NamedTuple):
    """One thing that is wrong. `offset` is a record's in `topic`, or None if there is no record to point at."""

    kind: str
    service: str
    topic: str  # or the table's name, where the table is wrong
    partition: int
    key: str | None
    offset: int | None
    expected: str
    found: str
    version: int | None = None

    def __str__(self) -> str:
        place = self.topic if self.partition < 0 else f"{self.topic}-{self.partition}"
        place += f" offset {self.offset}" if self.offset is not None else ""
        place += f" key {self.key!r}" if self.key is not None else ""
        place += f" version {self.version}" if self.version is not None else ""
        return f"{self.kind} {self.service}: {place}: expected {self.expected}, found {self.found}"


def short(value: object) -> str:
    """A value as a finding shows it."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHORT else f"{text[:SHORT]}…"


@dataclass(slots=True)
class Report:
    """The outcome. `findings` holds the first `limit` of each kind, `found` counts all of them.

    `checked`: how much was judged, by name. `rejected`: commands by `aggregate/reason`. `lag`: offsets that each
    service has yet to fold. `not_judged`: how many records could not be, by why. `notes`: what else could not be.
    """

    limit: int = 10
    findings: list[Finding] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    lag: dict[str, int] = field(default_factory=dict)
    not_judged: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.found

    def add(self, finding: Finding) -> None:
        """Take a finding in."""
        self.found[finding.kind] += 1
        if self.found[finding.kind] <= self.limit:
            self.findings.append(finding)

    def merge(self, other: Report) -> None:
        """Take in what a part has found."""
        shown = Counter(finding.kind for finding in self.findings)
        for finding in other.findings:
            shown[finding.kind] += 1
            if shown[finding.kind] <= self.limit:
                self.findings.append(finding)
        self.found += other.found
        self.checked += other.checked
        self.rejected += other.rejected
        self.lag |= other.lag
        self.not_judged += other.not_judged
        self.notes += other.notes

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "clean": self.clean,
            "checked": dict(sorted(self.checked.items())),
            "rejected": dict(sorted(self.rejected.items())),
            "lag": self.lag,
            "not_judged": dict(self.not_judged),
            "found": dict(self.found),
            "findings": [finding._asdict() for finding in self.findings],
            "notes": self.notes,
        }

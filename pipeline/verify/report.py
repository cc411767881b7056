"""What the checker says: how much it has checked, and each thing that is not as it must be."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.adapters.json.writing import to_json
from pipeline.client.wire.as_of import iso
from pipeline.flow import ABSENT, state_difference

SHORT = 160  # characters of a value in a finding
LEAD = 20  # of these, so many before the place where two long values begin to differ
FIELDS = 10  # that differ, in a finding


class Field(NamedTuple):
    """A field that differs, and both values as JSON; `absent` for a value that is missing."""

    field: str
    expected: str
    found: str


class Sides(NamedTuple):
    """Two values that differ. `fields`: the first that do, of `differing`; the texts are made of them."""

    expected: str
    found: str
    fields: tuple[Field, ...] = ()
    differing: int = 0


class Finding(NamedTuple):
    """One thing that is wrong. `offset` is a record's in `topic`, or None if there is no record to point at.

    `fields`: of two values, the first fields that differ, of `differing`; `expected` and `found` are made of them.
    """

    kind: str
    service: str
    topic: str  # or the table's name, where the table is wrong
    partition: int
    key: str | None
    offset: int | None
    expected: str
    found: str
    version: int | None = None
    fields: tuple[Field, ...] = ()
    differing: int = 0

    def of_values(self, expected: Any, found: Any) -> Finding:
        """Return the finding of these two values: what differs between them, not the whole of both."""
        return self._replace(**sides(expected, found)._asdict())

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {**self._asdict(), "fields": [each._asdict() for each in self.fields]}

    def __str__(self) -> str:
        place = self.topic if self.partition < 0 else f"{self.topic}-{self.partition}"
        place += f" offset {self.offset}" if self.offset is not None else ""
        place += f" key {self.key!r}" if self.key is not None else ""
        place += f" version {self.version}" if self.version is not None else ""
        return f"{self.kind} {self.service}: {place}: expected {self.expected}, found {self.found}"


def sides(expected: Any, found: Any) -> Sides:
    """What differs between two values: messages, rows, or what is in them; not the whole of both."""
    differences = list(state_difference(*(to_json(side, tagged=True) for side in (expected, found))))
    if not differences or not differences[0].path:
        return Sides(*_cut(_whole(expected), _whole(found)))
    fields = tuple(Field(path, *_cut(_text(want), _text(have))) for path, want, have in differences[:FIELDS])
    want, have = (", ".join(f"{each.field} {each[n]}" for each in fields) for n in (1, 2))
    return Sides(want, have, fields, len(differences))


def short(value: object) -> str:
    """A value as a finding shows it."""
    text = _whole(value)
    return text if len(text) <= SHORT else f"{text[:SHORT]}…"


def _whole(value: object) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else repr(value)


def _text(value: Any) -> str:
    return "absent" if value is ABSENT else json.dumps(value, ensure_ascii=False, default=repr)


def _cut(expected: str, found: str) -> tuple[str, str]:
    """Both texts, in short; of long ones what is around the place where they begin to differ."""
    same = next((n for n, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), 0)
    begin = max(0, same - LEAD) if max(len(expected), len(found)) > SHORT else 0
    if not begin:
        return short(expected), short(found)
    return f"…{short(expected[begin:])}", f"…{short(found[begin:])}"


@dataclass(slots=True)
class Report:
    """The outcome. `findings` holds the first `limit` of each kind, `found` counts all of them.

    `checked`: how much was judged, by name. `rejected`: commands by `aggregate/reason`. `lag`: offsets that each
    service has yet to fold. `not_judged`: how many records could not be, by why. `notes`: what else could not be.
    `decided_otherwise`: commands of which what stands fits together and is not what is decided today; and when the
    last of them was stored.
    """

    limit: int = 10
    findings: list[Finding] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    lag: dict[str, int] = field(default_factory=dict)
    not_judged: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    decided_otherwise: int = 0
    decided_otherwise_ms: int = 0

    @property
    def likely_cause(self) -> str | None:
        """What the findings look like, and what to do then."""
        if not self.decided_otherwise:
            return None
        last_ms = self.decided_otherwise_ms
        return (
            f"likely cause: decide has changed. What stands of {self.decided_otherwise:,} commands, the last of them "
            f"stored at {iso(last_ms)}, fits together and is not what they are decided to be today: reply and events, "
            "or no deadline of a name before those that are there. If that is meant, take what was decided before as "
            f"it stands: add --decided-since {iso(last_ms + 1)}, or when the new code began. What it decides "
            "otherwise: pipeline replay-check"
        )

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.found

    def add(self, finding: Finding) -> None:
        """Take a finding in."""
        self.found[finding.kind] += 1
        if self.found[finding.kind] <= self.limit:
            self.findings.append(finding)

    def saw_decided_otherwise(self, time_ms: int) -> None:
        """Count a command, stored then, on which decide seems to have changed."""
        self.decided_otherwise += 1
        self.decided_otherwise_ms = max(self.decided_otherwise_ms, time_ms)

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
        self.decided_otherwise += other.decided_otherwise
        self.decided_otherwise_ms = max(self.decided_otherwise_ms, other.decided_otherwise_ms)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "clean": self.clean,
            "checked": dict(sorted(self.checked.items())),
            "rejected": dict(sorted(self.rejected.items())),
            "lag": self.lag,
            "not_judged": dict(self.not_judged),
            "found": dict(self.found),
            "findings": [finding.as_json() for finding in self.findings],
            "likely_cause": self.likely_cause,
            "notes": self.notes,
        }

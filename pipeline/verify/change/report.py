"""What a replay check says: what present code makes otherwise, in groups, and how much was compared."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

from pipeline.flow import ABSENT, state_difference

NUMBERS = re.compile(r"\[\d+\]")


class Group(NamedTuple):
    """Differences of one kind. `what`: decision, state, row, event. `of`: the aggregate or projection."""

    what: str
    of: str
    type: str
    field: str


class Example(NamedTuple):
    """One difference, in full; values as JSON has them."""

    key: str
    place: str
    recorded: Any
    now: Any


class Scope(NamedTuple):
    """What is compared: what was stored since then, and so great a part of all keys, with their whole histories."""

    since_ms: int | None = None
    sample: float = 1.0

    def has_key(self, key: str) -> bool:
        """Return whether a key is in the sample: the same keys each time."""
        return self.sample >= 1 or crc32(key.encode()) < self.sample * 2**32

    def has_time(self, time_ms: int) -> bool:
        """Return whether what was stored then is compared."""
        return self.since_ms is None or time_ms >= self.since_ms


@dataclass(slots=True)
class ChangeReport:
    """The outcome. `examples`: the first `limit` differences of each group, `found` counts all of them.

    `checked`: how much was compared. `not_judged`: what could not be, by why.
    """

    limit: int = 3
    found: Counter[Group] = field(default_factory=Counter)
    examples: dict[Group, list[Example]] = field(default_factory=dict)
    checked: Counter[str] = field(default_factory=Counter)
    not_judged: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        """Whether nothing differs."""
        return not self.found

    def add(self, group: Group, example: Example) -> None:
        """Take in a difference."""
        group = group._replace(field=NUMBERS.sub("[]", group.field))
        self.found[group] += 1
        shown = self.examples.setdefault(group, [])
        if len(shown) < self.limit:
            shown.append(example)

    def compare(self, group: Group, key: str, place: str, recorded: Any, now: Any) -> None:
        """Take in each field that differs between two values as JSON has them."""
        for path, before, after in state_difference(recorded, now):
            sides = ("absent" if side is ABSENT else side for side in (before, after))
            self.add(group._replace(field=path), Example(key, f"{place} {path}".rstrip(), *sides))

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "clean": self.clean,
            "checked": dict(sorted(self.checked.items())),
            "not_judged": dict(sorted(self.not_judged.items())),
            "differences": [
                {**group._asdict(), "count": count, "examples": [each._asdict() for each in self.examples[group]]}
                for group, count in self.found.most_common()
            ],
        }

"""The position token: how far logs were when something was stored or read, as text that travels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain
from typing import TypeVar

from pipeline.errors import InvalidToken

K = TypeVar("K")
OFFSET_MAX = 2**63 - 1
ENTRIES_MAX = 10_000
ENTRY = re.compile(r"([A-Za-z0-9._-]{1,249})/([0-9]{1,9})@([0-9]{1,19})", re.ASCII)
RESTORED = "pipeline.restored."  # begins the entry by which a token says of which restored cluster it is
OTHER_VERSION = re.compile(r"[0-9]+:")


class Token(str):
    """`orders.command/3@1234`: the record at that offset of that partition, and all before it. Several by commas.

    Topics have their declared names, whatever a cluster calls them. Text that begins with a number and a colon is left
    to later forms. To be kept and handed back, alone or combined with others: `one | another` is past both.
    """

    __slots__ = ()

    @classmethod
    def of(cls, positions: Mapping[tuple[str, int], int]) -> Token:
        """The token of positions by topic and partition, each the offset of a record."""
        return cls(",".join(f"{topic}/{n}@{offset}" for (topic, n), offset in sorted(positions.items())))

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """Parse offsets by topic and partition. Raises InvalidToken."""
        if OTHER_VERSION.match(self):
            raise InvalidToken(f"the token {self!r:.100} is of a form that this version does not know")
        entries = self.split(",") if self else []
        if len(entries) > ENTRIES_MAX:
            raise InvalidToken(f"the token has {len(entries)} entries, more than {ENTRIES_MAX}")
        found: dict[tuple[str, int], int] = {}
        for entry in entries:
            read = ENTRY.fullmatch(entry)
            if read is None or int(read[3]) > OFFSET_MAX:
                raise InvalidToken(f"{entry!r:.100} is no part of a token, such as orders.command/3@1234")
            place = read[1], int(read[2])
            found[place] = max(int(read[3]), found.get(place, 0))
        return found

    def __or__(self, other: str) -> Token:
        """What is past both. Raises InvalidToken."""
        return Token.of(furthest(self.positions, Token(other).positions))


def marked(positions: Mapping[tuple[str, int], int], mark: str) -> Token:
    """Return the token of positions in a cluster. `mark`: what tells it from others if it was restored; else empty."""
    return Token.of({**positions, (RESTORED + mark, 0): 0} if mark and positions else positions)


def marks(positions: Mapping[tuple[str, int], int]) -> set[str]:
    """Return the marks of the restored clusters that positions are of."""
    return {topic.removeprefix(RESTORED) for topic, _ in positions if topic.startswith(RESTORED)}


def furthest(*positions: Mapping[K, int]) -> dict[K, int]:
    """The highest offset of each."""
    found: dict[K, int] = {}
    for place, offset in chain.from_iterable(each.items() for each in positions):
        found[place] = max(offset, found.get(place, offset))
    return found

"""What is asked where nothing is broken, but slow: nobody is given up, and work is no slower than the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

LEAST = 0.5  # of the share that is left to the workers: what they have to make of it
FENCED = re.compile(
    r"fenced by|fences the|PRODUCER_FENCED|INVALID_PRODUCER_EPOCH|invalid producer epoch", re.IGNORECASE
)
PRODUCER = re.compile(r"\[(\S+)#producer-")
TAKEN_OVER = re.compile(r"(\S+) has left the group; its open transaction")
TIMED_OUT = re.compile(r"message\(s\) timed out|Message timed out")
REOPENED = re.compile(r"going on from the last commit")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast work went with something slow about it, beside how fast without, in the same round."""

    what: str
    free: float  # a second
    slow: float
    share: float  # of the machine, or of the time, that was left; how it is reckoned, each kind says

    @property
    def of_share(self) -> float:
        """What was made of what was left: 1 where work got slower by no more than the machine did."""
        return self.slow / (self.free * self.share)

    def __str__(self) -> str:
        return (
            f"{self.what}: {self.slow:,.1f}/s, and {self.free:,.1f}/s without; with a share of {self.share:.2f} left, "
            f"that is {self.of_share:.2f} of it"
        )


@dataclass(slots=True)
class Slowness:
    """What has come of it in one round."""

    paces: list[Pace] = field(default_factory=list)
    fenced: list[str] = field(default_factory=list)  # lines of workers' logs, of producers that nobody has taken over
    taken_over: int = 0  # times that a worker was, as the group had left it out
    timed_out: int = 0  # lines that tell of messages that did
    reopened: int = 0  # lanes that were opened again
    deaths: list[str] = field(default_factory=list)

    def read(self, lines: Iterable[str], deaths: Sequence[str]) -> None:
        """Takes in what the workers have logged, and which have ended."""
        self.deaths, lines = list(deaths), list(lines)
        taken = [found[1] for line in lines if (found := TAKEN_OVER.search(line))]
        self.taken_over = len(taken)
        for line in lines:
            if FENCED.search(line) and (named := PRODUCER.search(line)) and named[1] not in taken:
                self.fenced.append(line)
            self.timed_out += bool(TIMED_OUT.search(line))
            self.reopened += bool(REOPENED.search(line))

    @property
    def broken(self) -> list[str]:
        """What must not come of slowness."""
        ended = [f"a worker ended: {death}" for death in self.deaths]
        behind = [f"less than {LEAST} of its share: {pace}" for pace in self.paces if pace.of_share < LEAST]
        return ended + behind + [f"fenced: {line}" for line in self.fenced]

"""What a function of the bank does on demand of a memo: it raises, or it is slow. All else is as usual.

    raise in decide                  always
    raise in project until mended    while the code is broken: see `Conduct.mend`
    time out in decide               some times while it is broken; the bank's services call that transient
    slow 50 ms in evolve             it takes so long

The functions: decide, evolve, react, route, project, replica.
"""

from __future__ import annotations

import re
import time

WORDS = re.compile(
    r"(?:raise|time out|slow (\d{1,4}) ms) in (decide|evolve|react|route|project|replica)( until mended)?"
)
TIMES = 5  # a function times out, while it is broken


class Refuses(Exception):
    """What a function raises on demand."""


class Conduct:
    """The state of the bank's code, which a history breaks and mends."""

    mended = True
    timing_out = 0

    @classmethod
    def mend(cls, mended: bool) -> None:
        cls.mended, cls.timing_out = mended, 0 if mended else TIMES


def conduct(memo: str, where: str) -> None:
    """Do what `memo` demands of the function `where`."""
    found = WORDS.fullmatch(memo)
    if found is None or found[2] != where:
        return
    if found[1]:
        time.sleep(int(found[1]) / 1000)
    elif memo.startswith("time out"):
        if Conduct.timing_out:
            Conduct.timing_out -= 1
            raise TimeoutError("took too long")
    elif not found[3] or not Conduct.mended:
        raise Refuses(f"as asked: {memo}")

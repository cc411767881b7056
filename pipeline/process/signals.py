"""Signals that ask a process to end, turned into one orderly clean-up."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.errors import Ending

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Ended(Ending):
    """A signal has asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return f"ended by {signal.Signals(self.number).name}"

    @property
    def exit_code(self) -> int:
        """The exit code that a shell reports for a process that the signal has ended."""
        return 128 + self.number


@contextmanager
def orderly_end() -> Iterator[None]:
    """Raise Ended on SIGTERM, SIGINT (Ctrl-C) and SIGHUP (a closed terminal), so that the block cleans up.

    The first one raises Ended in the main thread; others that come while the block unwinds change nothing, so a second
    Ctrl-C does not interrupt the clean-up. SIGHUP stays ignored if it was, as under nohup. Call it in the main thread,
    and bound the clean-up: only SIGKILL cuts it short.
    """
    raised: list[Ended] = []
    over = False

    def end(number: int, _: FrameType | None) -> None:
        if over or (raised and _unwinds(raised[-1])):
            return
        raised.append(Ended(number))  # an earlier one was swallowed, as in a destructor: no clean-up runs
        raise raised[-1]

    before = {number: signal.getsignal(number) for number in ENDING}
    chosen = [number for number in ENDING if number != signal.SIGHUP or before[number] is not signal.SIG_IGN]
    try:
        for number in chosen:
            signal.signal(number, end)
        yield
    finally:
        over = True  # before the first handler is put back: from here on, a signal finds the block left
        for number in chosen:
            signal.signal(number, before[number])


def _unwinds(ended: Ended) -> bool:
    """Whether that exception, or one raised while it was handled, is being handled right now."""
    handled = sys.exc_info()[1]
    while handled is not None and handled is not ended:
        handled = handled.__context__
    return handled is ended

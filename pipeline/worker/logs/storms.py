"""Bounds how often the same line is logged: a storm of one error is a few lines, and the count of those left out."""

from __future__ import annotations

import contextlib
import copy
import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

WINDOW_S = 60.0
SAME_MAX = 5  # lines of one text, but for its numbers, within the window
PLACE_MAX = 100  # lines of one place in the code, whatever they say
KINDS_MAX = 10_000  # that are remembered
KIND_CHARACTERS = 200  # of a text, by which lines are the same
LOOK_S = 1.0
_NUMBERS = re.compile(r"\d+")
Kind = tuple[Any, ...]


@dataclass(slots=True)
class _Window:
    """What was logged of one kind since the window has begun. `first`: the first line that was left out."""

    began_s: float
    logged: int = 0
    left_out: int = 0
    first: logging.LogRecord | None = None

    def leave_out(self, record: logging.LogRecord) -> Literal[False]:
        """Count a line that is not logged."""
        self.left_out += 1
        self.first = self.first or record
        return False


class Storms:
    """Decides which lines are logged. `log`: logs the line that says how many were left out. Not thread-safe."""

    def __init__(self, log: Callable[[logging.LogRecord], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._windows: dict[Kind, _Window] = {}

    def admits(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged; one that is not is counted."""
        if record.levelno <= logging.DEBUG:
            return True
        place = (record.pathname, record.lineno, record.levelno)
        of_place = self._window(place)
        if of_place.logged >= PLACE_MAX:
            return of_place.leave_out(record)
        same = self._window((*place, _NUMBERS.sub("", _text(record))[:KIND_CHARACTERS]))
        if same.logged >= SAME_MAX:
            return same.leave_out(record)
        of_place.logged += 1
        same.logged += 1
        return True

    def _window(self, kind: Kind) -> _Window:
        now_s = self._clock()
        window = self._windows.get(kind)
        if window is not None and now_s - window.began_s >= WINDOW_S:
            self._end(kind)
            window = None
        if window is None:
            if len(self._windows) >= KINDS_MAX:
                self.end()
            window = self._windows[kind] = _Window(now_s)
        return window

    def look(self) -> bool:
        """Say how many lines were left out of windows that are over. Return whether any window has left some out."""
        now_s = self._clock()
        for kind in [kind for kind, each in self._windows.items() if now_s - each.began_s >= WINDOW_S]:
            self._end(kind)
        return any(each.left_out for each in self._windows.values())

    def end(self) -> None:
        """Say how many lines were left out so far, and begin anew."""
        for kind in list(self._windows):
            self._end(kind)

    def _end(self, kind: Kind) -> None:
        window = self._windows.pop(kind)
        if window.first is not None:
            told = copy.copy(window.first)
            told.exc_info = None
            if window.left_out > 1:
                told.__dict__["left_out"] = window.left_out - 1
            self._log(told)


class BoundedStream(logging.StreamHandler[Any]):
    """A stream handler that logs no storms. A thread looks at what was left out while something is."""

    def __init__(self, stream: Any = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._storms = Storms(super().emit, clock)
        self._looking = False

    def emit(self, record: logging.LogRecord) -> None:  # called with the handler's lock held
        if self._storms.admits(record):
            super().emit(record)
        elif not self._looking:
            self._looking = True
            threading.Thread(target=self._look, name="log-storms", daemon=True).start()

    def _look(self) -> None:
        while self._looking:
            time.sleep(LOOK_S)
            with self.lock or contextlib.nullcontext():
                self._looking = self._looking and self._storms.look()

    def close(self) -> None:
        with self.lock or contextlib.nullcontext():
            self._looking = False
            self._storms.end()
        super().close()


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        return str(record.msg)

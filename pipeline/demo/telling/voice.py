"""The demo's voice: each step with its reason, and how far it is."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from pipeline.demo.telling.report import say

STEPS = 6
WIDTH_MAX = 80
LINE_S = 5.0  # between two lines on how far it is
INDENT = "     "
Moved: TypeAlias = Callable[[str, int, int], None]  # what, how much of it is done, and of how much


class Voice:
    """Says what the demo does.

    A terminal shows how far it is as bars that go away; anything else gets a line now and then, in plain text.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self._clock = console, clock
        self._step = 0

    def step(self, what: str, why: str = "") -> None:
        """Begin the next step."""
        self._step += 1
        self.paragraph(f"{self._step}/{STEPS}  {what}", hang=INDENT, style="bold")
        if why:
            self.paragraph(why, INDENT, style="dim")

    def paragraph(self, text: str, indent: str = "", hang: str = "", style: str = "") -> None:
        """Print a text, wrapped between words for this console."""
        width = max(20, min(self.console.width, WIDTH_MAX))
        lines = textwrap.wrap(
            text,
            width,
            initial_indent=indent,
            subsequent_indent=indent + hang,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines:
            say(self.console, line, style)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show on a terminal that something is waited for."""
        with self.console.status(Text(text)):
            yield

    @contextmanager
    def progress(self, unit: str) -> Iterator[Moved]:
        """Show how far the parts of a step are. Yield what moves one of them."""
        if self.console.is_interactive:
            columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with Progress(*columns, console=self.console, transient=True) as bars:
                tasks = {}

                def move(part: str, done: int, of: int) -> None:
                    if part not in tasks:
                        tasks[part] = bars.add_task(part, total=of)
                    bars.update(tasks[part], completed=done, total=of)

                yield move
        else:
            yield self._lines(unit)

    def _lines(self, unit: str) -> Moved:
        parts: dict[str, tuple[int, int]] = {}
        said_s, said = self._clock(), -1

        def move(part: str, done: int, of: int) -> None:
            nonlocal said_s, said
            parts[part] = done, of
            now_s, all_done = self._clock(), sum(done for done, _ in parts.values())
            if now_s - said_s >= LINE_S and all_done != said:
                said_s, said = now_s, all_done
                say(self.console, f"{INDENT}{all_done:,} of {sum(of for _, of in parts.values()):,} {unit}")

        return move

"""A story for people: lines that fit the terminal, or 80 columns where there is none."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.client.wire.plain import plain
from pipeline.explain.logs import Found
from pipeline.explain.rows import Row
from pipeline.explain.steps import Kind, Step, bodies
from pipeline.explain.story import DECIDED, REPLICA, ROW, TOGETHER, Story, at, commit, place, why

WIDTH_MAX = 100  # longer lines are hard to read
FIELDS_MAX = 400  # characters of one record; --json has all
INDENT = "      "
SENT_WITH_IT = (Kind.ASK, Kind.UNDO, Kind.ANSWER, Kind.RESERVATION)
FROM = {
    Kind.REQUEST: "from outside",
    Kind.REACTION: "sent by the reaction {}",
    Kind.ASK: "asked by {}",
    Kind.UNDO: "an undoing asked by {}",
    Kind.ANSWER: "the answer to {}",
    Kind.RESERVATION: "reserved for {}",
    Kind.DEADLINE: "due: a deadline of {}",
}


def show(console: Console, story: Story) -> None:
    """Print the story, step by step. What a kind of step means is told once."""
    page = _Page(console)
    services = ", ".join(story.services)
    steps = "1 step" if len(story.steps) == 1 else f"{len(story.steps)} steps"
    page.line(f"{story.aggregate} {story.key}: {steps} through {services}", style="bold")
    page.line(story.which, style="dim")
    for step in story.steps:
        page.step(story, step)
    for row in story.rows:
        page.row(row)
    for note in story.notes:
        page.line(note, style="yellow")


def show_brief(console: Console, story: Story) -> None:
    """Print a line for each step but the answers: when, which service, what it was asked, what it has made of it."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("ms", justify="right")
    for name in ("service", "was asked", "decided"):
        table.add_column(name, overflow="fold")
    for step in story.steps:
        if step.kind is not Kind.ANSWER:
            events = [str(body["type"]) for event in step.events for body in bodies(event.message)]
            decided = f"REFUSED: {step.rejected.reason}" if step.rejected else ", ".join(events)
            asked = f"{_command_name(step)} {step.key}" + (" (an undoing)" if step.kind is Kind.UNDO else "")
            cells = f"{step.time_ms - story.began_ms:,}", step.owner.service, asked, decided
            table.add_row(*(Text(plain(cell)) for cell in cells), style="yellow" if step.rejected else "")
    console.print(table)


class _Page:
    def __init__(self, console: Console) -> None:
        self._console, self._width = console, max(20, min(console.width, WIDTH_MAX))
        self._told: set[str] = set()
        self._fields = ""  # of the record above

    def line(self, text: str, indent: str = "", style: str = "", hang: str = "  ") -> None:
        """Print a paragraph of plain text, wrapped between words. `hang`: more indent of its further lines."""
        lines = textwrap.wrap(
            plain(text),
            self._width,
            initial_indent=indent,
            subsequent_indent=indent + hang,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for each in lines or [""]:
            self._console.print(Text(each, style), soft_wrap=True)

    def step(self, story: Story, step: Step) -> None:
        """Print a step: the command, why it was sent, the decision, and what was committed together."""
        self.line("")
        sent = FROM[step.kind].format(step.sender)
        time = f"+{step.time_ms - story.began_ms:,} ms"
        self.line(
            f"{step.number:>3}  {time}  {step.owner.service}: {_command_name(step)}, {sent}", style="bold", hang=INDENT
        )
        if step.command is None:
            self.line(f"the command {step.command_id} is no longer in the log", INDENT)
        else:
            self._record(step.command, f"  key {step.key}")
            self.line(_caused(step), INDENT, "dim")
        self._why(why(step) if step.rejected is None else "")
        for event in step.events:
            self._record(event, f"  version {event.message.version}")  # type: ignore[union-attr]
        if step.rejected is not None:
            details = "".join(f", {name} {value}" for name, value in step.rejected.details.items())
            self.line(f"REFUSED by {step.owner.service}: {step.rejected.reason}{details}", INDENT, "bold yellow")
            self._why(why(step))
        elif step.events:
            self._why(DECIDED)
        elif step.reply is not None:
            self.line("accepted; it changes nothing, so there is no event", INDENT)
        else:
            self.line("no decision is in the logs (yet)", INDENT, "yellow")
        self._together(story, step)

    def _together(self, story: Story, step: Step) -> None:
        """Print which records the step's transaction holds."""
        if step.command is None or not (step.events or step.reply):
            return
        parts = [f"position behind {at(step.command.tp, step.command.entry.offset)}"]
        parts += [f"state {place(step.state)}"] if step.state else []
        parts += [f"reply {place(step.reply)}"] if step.reply else []
        own = f"{step.command.tp.topic}/{step.command.tp.partition}/{step.command.entry.offset}"
        sent = [each for each in step.caused(story.steps) if each.cause == own and each.kind in SENT_WITH_IT]
        parts += [f"what begins step {_numbers(sent)}"] if sent else []
        marks = [commit(event) for event in step.events if event.marker is not None]
        end = f"; committed by the mark at {marks[-1]}" if marks else ""
        self.line(f"one transaction: {'event' if step.events else 'no event'}, {', '.join(parts)}{end}", INDENT, "dim")
        self._why(TOGETHER)

    def row(self, row: Row) -> None:
        """Print a row."""
        self.line("")
        what = "its copy" if row.is_replica else "row of"
        self.line(f"{row.number:>3}  {row.service}: {what} {row.table}, from {row.source}", style="bold", hang=INDENT)
        where = place(row.place) or "in each worker, beside its other tables"
        self.line(f"{where}  key {row.key}", INDENT, "cyan")
        if row.place is not None:
            self.line("deleted" if row.fields is None else f"now: {_fields(row.fields)}", f"{INDENT}  ")
        self.line(f"caused by step {_numbers(row.causes)}", INDENT, "dim")
        self._why(REPLICA if row.is_replica else ROW)

    def _record(self, found: Found, more: str = "") -> None:
        for body in bodies(found.message):
            fields = dict(body)
            name = fields.pop("type")
            self.line(f"{at(found.tp, found.entry.offset)}  {name}{more}", INDENT, "cyan")
            if fields and (said := _fields(fields)) != self._fields:  # else an event says what its command does
                self._fields = said
                self.line(said, f"{INDENT}  ")

    def _why(self, text: str) -> None:
        """Print why, unless it was told before."""
        if text and text not in self._told:
            self._told.add(text)
            self.line(f"- {text}", INDENT, "green")


def _command_name(step: Step) -> str:
    if step.command is None:
        return "a command"
    return str(next(iter(bodies(step.command.message)), {"type": "a command"})["type"])


def _caused(step: Step) -> str:
    if step.cause is None:
        return f"command {step.command_id}; caused by nothing in these logs: a program or person has sent it"
    by = f"step {_numbers(step.causes)}, " if step.causes else ""
    return f"command {step.command_id}; caused by {by}{step.cause}"


def _numbers(steps: Sequence[Step]) -> str:
    return ", ".join(str(step.number) for step in steps)


def _fields(fields: object) -> str:
    """Return fields as name=value; a long one is cut."""
    if not isinstance(fields, dict):
        return json.dumps(fields, ensure_ascii=False)
    text = "  ".join(_named(fields))
    return text if len(text) <= FIELDS_MAX else f"{text[:FIELDS_MAX]}… (all of it: --json)"


def _named(fields: dict[str, object]) -> Iterator[str]:
    for name, value in fields.items():
        yield f"{name}={json.dumps(value, ensure_ascii=False, default=str)}"

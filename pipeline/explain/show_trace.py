"""A story in brief, for an operator: a line for each step, and what is refused, parked or not done yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from shlex import quote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.client.wire.as_of import iso
from pipeline.client.wire.plain import plain
from pipeline.explain.rows import Row
from pipeline.explain.steps import Kind, Step, bodies
from pipeline.explain.story import Story, place
from pipeline.model import EventMessage

FIELDS_MAX = 200  # characters of a row; --json has all


def show_trace(console: Console, story: Story) -> None:
    """Print the story, a line for each step."""

    def line(text: str, style: str = "") -> None:
        console.print(Text(plain(text), style), soft_wrap=True)

    first = story.steps[0]
    line(f"{story.aggregate} {story.key}: {len(story.steps)} steps through {', '.join(story.services)}", "bold")
    line(f"since {iso(story.began_ms)}; command {first.command_id}, {story.which}", "dim")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("step", "ms"):
        table.add_column(name, justify="right")
    for name in ("service", "was asked", "decided"):
        table.add_column(name, overflow="fold")
    for step in story.steps:
        cells = str(step.number), f"{step.time_ms - story.began_ms:,}", step.owner.service, _asked(step), _decided(step)
        style = "yellow" if step.rejected or step.parked or _waits(step) else ""
        table.add_row(*(Text(plain(cell)) for cell in cells), style=style)
    console.print(table)
    for row in story.rows:
        line(_row(row))
    for saga in story.sagas:
        told = saga.summary
        parts = [told.status, *([f"at {told.step}, attempt {told.attempt}"] if told.step else [])]
        parts += [f"waits for {', '.join(told.waits_for)}"] if told.waits_for else []
        parts += [f"because of {told.reason}"] if told.reason else []
        line(f"saga {saga.saga} {saga.key}: {', '.join(parts)}")
    for text in _undone(story):
        line(text, "yellow")
    for note in story.notes:
        line(note, "yellow")
    versions = [event.message.version for event in first.events if isinstance(event.message, EventMessage)]
    which = f" --version {versions[0]}" if versions else ""
    line(f"in full: pipeline explain {story.aggregate} {quote(story.key)}{which}", "dim")


def _asked(step: Step) -> str:
    name = "a command" if step.command is None else str(next(iter(bodies(step.command.message)), {})["type"])
    return f"{name} {step.owner.name}/{step.key}" + (" (an undoing)" if step.kind is Kind.UNDO else "")


def _decided(step: Step) -> str:
    if (no := step.rejected) is not None:
        return f"REFUSED: {no.reason}" + "".join(f", {name} {value}" for name, value in no.details.items())
    if step.events:
        return ", ".join(str(body["type"]) for event in step.events for body in bodies(event.message))
    if step.parked and step.reply is None:
        return step.parked[-1][1].action.upper()
    return "nothing yet" if _waits(step) else "nothing to do"


def _waits(step: Step) -> bool:
    """Return whether no decision of the step is in the logs. Sagas keep no replies, so they say nothing of it."""
    return not step.events and step.reply is None and step.owner.aggregate.idempotency is not None


def _row(row: Row) -> str:
    steps = ", ".join(str(cause.number) for cause in row.causes)
    where = f"{row.service}: {'copy' if row.is_replica else 'row of'} {row.table} {row.key}, from step {steps}"
    if row.place is None:
        return f"{where}, " + ("in each worker" if row.is_replica else "not there (yet)")
    text = "deleted" if row.fields is None else json.dumps(row.fields, ensure_ascii=False, default=str)
    return f"{where}: {text if len(text) <= FIELDS_MAX else f'{text[:FIELDS_MAX]}…'} ({place(row.place)})"


def _undone(story: Story) -> Iterator[str]:
    """Yield what is parked or waits, with what to do about it."""
    for step in story.steps:
        for service, act in step.parked:
            cause = f": {act.cause}" if act.cause else ""
            cure = (
                f"; see: pipeline parked show --service {service} --key {quote(step.key)}"
                if act.action == "parked"
                else ""
            )
            yield f"step {step.number} is {act.action} in {service}{cause}{cure}"
        if _waits(step) and not step.parked:
            yield f"step {step.number} has no decision of {step.owner.service} in the logs (yet)"

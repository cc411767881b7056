"""What commands print of users' data: the text itself, without markup, and no control characters; JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.client.wire.plain import plain, plain_json

Rows = Sequence[Mapping[str, Any]]


def say(text: object, *, err: bool = False, keep: str = "") -> None:
    """Print a line of plain text. `keep`: control characters that stay; see `plain`."""
    click.echo(plain(str(text), keep), err=err)


def json_text(value: Any) -> str:
    """Return JSON in a line that any terminal shows, and that standard output can encode."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    return plain_json(json.dumps(value, ensure_ascii=not encoding.startswith("utf"), default=str))


def say_json(value: Any) -> None:
    """Print a line of JSON."""
    click.echo(json_text(value))


def shown(value: Any) -> str:
    """Return a value for people: text as it is, anything else as JSON."""
    return plain(value) if isinstance(value, str) else json_text(value)


def fields_of(message: Mapping[str, Any]) -> tuple[str, str]:
    """Return the type of a command or event, and its fields in a line."""
    fields = dict(message)
    name = str(fields.pop("type"))
    return name, " ".join(f"{field}={json.dumps(value, ensure_ascii=False)}" for field, value in fields.items())


def say_fields(fields: Mapping[str, Any], indent: str = "") -> None:
    """Print a field a line. A long value is left to the terminal to wrap, so that it can be copied."""
    width = max((cell_len(plain(name)) for name in fields), default=0)
    for name, value in fields.items():
        title = plain(name)
        click.echo(f"{indent}{title}{' ' * (width - cell_len(title))}  {shown(value)}".rstrip())


def say_rows(rows: Rows, title: str = "", columns: Sequence[str] = ()) -> None:
    """Print rows as a table, or if it is wider than the terminal, a field a line with an empty line between two rows.

    `columns`: their order; by default that of the rows. A row may lack some.
    """
    names = list(columns or dict.fromkeys(name for row in rows for name in row))
    cells = [[shown(row[name]) if name in row else "" for name in names] for row in rows]
    titles = [plain(name) for name in names]
    console = Console()
    if _width([titles, *cells]) > console.width:
        if title:
            say(title)
        for n, row in enumerate(rows):
            if n:
                click.echo()
            say_fields({name: row[name] for name in names if name in row}, "  " if title else "")
        return
    table = Table(title=Text(plain(title), "table.title") if title else None, title_justify="left")
    for n, name in enumerate(titles):
        numbers = all(isinstance(row.get(names[n]), int | float | None) for row in rows)
        table.add_column(Text(name), justify="right" if numbers else "left")
    for each in cells:
        table.add_row(*map(Text, each))
    console.print(table)


def _width(lines: Sequence[Sequence[str]]) -> int:
    """Return how many columns of a terminal such a table takes."""
    widths = [max(cell_len(line[n]) for line in lines) for n in range(len(lines[0]))]
    return sum(width + 3 for width in widths) + 1


@contextmanager
def progress(*, silent: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on stderr. Yield what moves it: what is done now, how much is done, and of how much."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<36}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=silent) as bar:
        task = bar.add_task("", total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)

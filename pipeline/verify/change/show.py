"""What `pipeline replay-check` prints."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.client.wire.plain import plain
from pipeline.verify.change.report import ChangeReport, Group
from pipeline.verify.report import short


def show(report: ChangeReport, console: Console | None = None) -> None:
    """Print what was compared, what could not be, then the differences."""
    console = console or Console()
    table = Table(title="Compared", title_justify="left", title_style="bold")
    table.add_column("what")
    table.add_column("number", justify="right")
    for name, number in sorted(report.checked.items()):
        table.add_row(name, f"{number:,}")
    for why, number in sorted(report.not_judged.items()):
        table.add_row(Text(f"not judged: {plain(why)}"), f"{number:,}", style="yellow")
    console.print(table)
    for group, count in report.found.most_common():
        console.print(Text.assemble((title(group), "red"), f": {count:,}"), soft_wrap=True)
        for each in report.examples[group]:
            where = plain(f"  {each.key!r}, {each.place}")
            sides = f"\n    recorded {_value(each.recorded)}\n    now      {_value(each.now)}"
            console.print(Text(f"{where}{sides}"), soft_wrap=True)
        if count > len(report.examples[group]):
            console.print(Text(f"  and {count - len(report.examples[group]):,} more", "dim"))
    if report.clean:
        console.print("[bold green]nothing differs from what is recorded[/]")
    else:
        console.print(
            f"[bold red]{report.found.total():,} differences of {len(report.found)} kinds[/]", highlight=False
        )


def title(group: Group) -> str:
    """Return what differs, in a line."""
    parts = (part for part in (group.type, group.field) if part)
    return plain(f"{group.what} of {group.of}: {'.'.join(parts)}")


def _value(value: Any) -> str:
    return plain(short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))

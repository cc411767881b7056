"""The hall as it fills: `python -m tickets.live hamlet`, until Ctrl-C.

One row has the whole hall, so one watch shows all its seats. Without a terminal, each change is a line.
"""

from __future__ import annotations

import contextlib
import sys

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pipeline import QueryClient, find_cluster
from pipeline.errors import PipelineError
from tickets.halls import SeatMap, Status, seat_map

SIGNS = {"free": ("·", "green"), "held": ("?", "yellow"), "sold": ("#", "bold red")}


def counted(hall: SeatMap) -> str:
    """The figures of a hall in a line."""
    return f"{hall.free} free   {hall.held} held   {hall.sold} sold"


def picture(show: str, hall: SeatMap) -> Text:
    """The seats, a line for each row of the hall."""
    text = Text(f"{show}\n\n")
    rows: dict[str, list[tuple[int, Status]]] = {}
    for seat, status in hall.seats.items():
        rows.setdefault(seat[0], []).append((int(seat[1:]), status))
    for letter, seats in sorted(rows.items()):
        text.append(f"  {letter}  ")
        for _, status in sorted(seats):
            sign, style = SIGNS[status]
            text.append(f"{sign} ", style)
        text.append("\n")
    return text.append(f"\n{counted(hall)}   (· free  ? held  # sold)")


def main(show: str) -> None:
    """Show the hall, and each change of it."""
    console, cluster = Console(), find_cluster()
    with QueryClient(cluster.address, cluster.topology, patience_s=30) as query:
        changes = (change.row for change in query.watch(seat_map, show) if change.row is not None)
        if not console.is_terminal:
            for hall in changes:
                print(f"{show}: {counted(hall)}", flush=True)
        with Live(f"{show}: no seats yet", console=console) as live:
            for hall in changes:
                live.update(picture(show, hall))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            main(sys.argv[1])
        except PipelineError as error:
            sys.exit(f"error: {error}")

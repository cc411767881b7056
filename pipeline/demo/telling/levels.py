"""The demo's last table: one read at each consistency level, and its time."""

from __future__ import annotations

import time

from rich.console import Console
from rich.table import Table

from pipeline.client import Accepted, Client
from pipeline.client.queries import QueryClient
from pipeline.client.requests import Options
from pipeline.client.wire.read_options import WAIT_S_MAX
from pipeline.demo.telling.report import plain

WAIT_S = WAIT_S_MAX  # the machine may be slow


def show_levels(console: Console, client: Client, query: QueryClient) -> None:
    """Read a customer at each level; for `at_least`, send a command that changes nothing."""
    user = next(query.scan("users", limit=1), None)
    if user is None:  # there are no customers
        return
    key = user["key"]
    same = client.commands.from_json("users", "ChangeCountry", {"country": user["row"]["country"]})
    sent = client.send("users", key, same, wait=WAIT_S)
    assert isinstance(sent, Accepted)
    reads: list[tuple[str, str, Options]] = [
        ("eventual", "customers", {"consistency": "eventual"}),
        ("owner", "customers", {}),
        (f"at_least={sent.position}", "customers", {"at_least": sent.position, "wait": WAIT_S}),
        ("fresh", "customers", {"consistency": "fresh", "wait": WAIT_S}),
        ("linearizable", "users", {"consistency": "linearizable", "wait": WAIT_S}),
    ]
    shown = Table(title=plain(f"reads of {key}", "table.title"), title_justify="left")
    for name in ("consistency", "table", "position"):
        shown.add_column(name, overflow="fold")
    shown.add_column("ms", justify="right")
    for level, table, options in reads:
        began = time.monotonic()
        row = query.get(table, key, **options)
        shown.add_row(level, table, str(row["position"]), f"{1000 * (time.monotonic() - began):.1f}")
    console.print(shown)

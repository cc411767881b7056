"""Results as tables, JSON and the facts of the machine they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = ("confluent-kafka", "fastavro", "rocksdict", "faust-streaming")


def machine() -> dict[str, Any]:
    """When and on what something was measured; `load` is the load average of the last minute."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of the same columns as a table; numbers stand at the right."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*[f"{value:,.2f}" if isinstance(value, float) else str(value) for value in row.values()])
    Console().print(table)

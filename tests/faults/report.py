"""The figures of a run, by kind of fault."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.round import Result

COLUMNS = (
    "rounds",
    "judged",
    "faults",
    "commands",
    "lost",
    "duplicated",
    "wrong rows",
    "reads",
    "stale",
    "p50 s",
    "max s",
    "worker deaths",
)


class Report:
    """Collects results and shows them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._results: dict[str, list[Result]] = defaultdict(list)
        self._skipped: dict[str, str] = {}
        self._failures: dict[str, list[str]] = defaultdict(list)

    def add(self, result: Result) -> None:
        self._results[result.kind].append(result)

    def skip(self, kind: str, why: str) -> None:
        self._skipped[kind] = why

    def fail(self, kind: str, why: str) -> None:
        """A round was not carried through."""
        self._failures[kind].append(why)

    def failed(self, kind: str) -> bool:
        return bool(self._failures[kind])

    @property
    def bad(self) -> bool:
        """Whether anything is not as it must be."""
        damaged = any(result.damage for results in self._results.values() for result in results)
        return damaged or any(self._failures.values()) or not self._results

    def figures(self) -> dict[str, dict[str, Any]]:
        """By kind, and all together."""
        everything = [result for results in self._results.values() for result in results]
        return {kind: _row(results) for kind, results in [*self._results.items(), ("all", everything)]}

    def show(self, console: Console) -> None:
        table = Table(title=f"Faults, seed {self.seed}")
        table.add_column("fault")
        for column in COLUMNS:
            table.add_column(column, justify="right")
        for kind, row in self.figures().items():
            if kind == "all":
                table.add_section()
            table.add_row(kind, *[_shown(row[column]) for column in COLUMNS])
        for kind, why in self._skipped.items():
            table.add_row(kind, f"SKIPPED: {why}")
        console.print(table)
        console.print(
            "Time to recover: from a fault, or from its end where it lasts (cut, held, disk full, two brokers away), "
            "until every partition of every service shows work done after it."
        )
        rebalances = self.figures()["all"]["rebalances"]
        console.print(f"Changes of membership besides kills: {rebalances}")
        for kind, failures in self._failures.items():
            for failure in failures:
                console.print(f"[red]not carried through: {kind}, {failure}[/]")

    def json(self) -> str:
        """All of it, for a program."""
        return json.dumps(
            {
                "seed": self.seed,
                "kinds": self.figures(),
                "skipped": self._skipped,
                "not_carried_through": {kind: each for kind, each in self._failures.items() if each},
                "deaths": [death for results in self._results.values() for r in results for death in r.deaths],
                "schedules": {f"{r.kind} {r.seed}": r.notes for results in self._results.values() for r in results},
            },
            indent=2,
        )


def _row(results: list[Result]) -> dict[str, Any]:
    times = sorted(seconds for result in results for seconds in result.recovered_s)
    return {
        "rounds": len(results),
        "judged": sum(result.judged for result in results),
        "faults": sum(result.injected for result in results),
        "rebalances": sum(result.rebalances for result in results),
        "commands": sum(result.sent for result in results),
        "lost": sum(len(result.damage.lost) for result in results),
        "duplicated": sum(len(result.damage.duplicated) for result in results),
        "wrong rows": sum(len(result.damage.wrong) for result in results),
        "reads": sum(result.reads for result in results),
        "stale": sum(len(result.damage.stale) for result in results),
        "p50 s": round(statistics.median(times), 1) if times else None,
        "max s": round(times[-1], 1) if times else None,
        "worker deaths": sum(len(result.deaths) for result in results),
    }


def _shown(value: Any) -> str:
    return "–" if value is None else f"{value:,}"

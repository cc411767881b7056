"""The figures of a run, by kind of fault."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.harness.slowness import LEAST, Pace
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
SLOW_COLUMNS = ("worker deaths", "fenced", "taken over", "timed out", "reopened", "of share")  # of what is slow


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
        damaged = any(result.bad for results in self._results.values() for result in results)
        return damaged or any(self._failures.values()) or not self._results

    def figures(self) -> dict[str, dict[str, Any]]:
        """By kind, and all together."""
        everything = [result for results in self._results.values() for result in results]
        return {kind: _row(results) for kind, results in [*self._results.items(), ("all", everything)]}

    def show(self, console: Console) -> None:
        figures = self.figures()
        table = _table(f"Faults, seed {self.seed}", COLUMNS, figures)
        for kind, why in self._skipped.items():
            table.add_row(kind, f"SKIPPED: {why}")
        console.print(table)
        console.print(
            "Time to recover: from a fault, or from its end where it lasts (cut, held, disk full, two brokers away), "
            "until every partition of every service shows work done after it."
        )
        if slow := {kind: row for kind, row in figures.items() if kind != "all" and row["fenced"] is not None}:
            console.print(_table("Slow, not broken", SLOW_COLUMNS, slow))
            console.print(
                "How often workers have told of producers that were fenced though nobody had taken over from them, of "
                "those that somebody had, and of messages that timed out; how often lanes were opened again; and the "
                "least that was made of the share that was left. There must be no worker death, "
                f"nobody fenced, and at least {LEAST} of the share."
            )
        console.print(f"Changes of membership besides kills: {figures['all']['rebalances']}")
        for kind, failures in self._failures.items():
            for failure in failures:
                console.print(f"[red]not carried through: {kind}, {failure}[/]")

    def _slow(self) -> list[Result]:
        return [r for results in self._results.values() for r in results if r.slowness is not None]

    def json(self) -> str:
        """All of it, for a program."""
        return json.dumps(
            {
                "seed": self.seed,
                "kinds": self.figures(),
                "skipped": self._skipped,
                "not_carried_through": {kind: each for kind, each in self._failures.items() if each},
                "deaths": [death for results in self._results.values() for r in results for death in r.deaths],
                "slow": [_pace(r, pace) for r in self._slow() if r.slowness for pace in r.slowness.paces],
                "broken_by_slowness": {f"{r.kind} {r.seed}": r.slowness.broken for r in self._slow() if r.slowness},
                "schedules": {f"{r.kind} {r.seed}": r.notes for results in self._results.values() for r in results},
            },
            indent=2,
        )


def _table(title: str, columns: Sequence[str], rows: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=title)
    table.add_column("fault")
    for column in columns:
        table.add_column(column, justify="right")
    for kind, row in rows.items():
        if kind == "all":
            table.add_section()
        table.add_row(kind, *[_shown(row[column]) for column in columns])
    return table


def _row(results: list[Result]) -> dict[str, Any]:
    slow = [result.slowness for result in results if result.slowness is not None]
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
        "fenced": sum(len(each.fenced) for each in slow) if slow else None,
        "taken over": sum(each.taken_over for each in slow) if slow else None,
        "timed out": sum(each.timed_out for each in slow) if slow else None,
        "reopened": sum(each.reopened for each in slow) if slow else None,
        "of share": min((round(pace.of_share, 2) for each in slow for pace in each.paces), default=None),
    }


def _pace(result: Result, pace: Pace) -> dict[str, Any]:
    rates = {"a_second": round(pace.slow, 1), "without": round(pace.free, 1)}
    shares = {"share_left": round(pace.share, 3), "of_share": round(pace.of_share, 2)}
    return {"kind": result.kind, "seed": result.seed, "what": pace.what, **rates, **shares}


def _shown(value: Any) -> str:
    return "–" if value is None else f"{value:,}"

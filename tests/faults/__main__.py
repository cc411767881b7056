"""Injects faults until the time is up: python -m tests.faults --minutes 30 --seed 1 [--kind NAME …] [--json FILE]

Each round is one kind of fault on fresh topics under a steady load; then all settles and every event and row is judged.
The same seed gives the same schedules. Ends with a table, and with 1 if anything was lost, duplicated, wrong or stale,
if slowness has ended a worker, fenced a producer or left less than its share done, or if a round could not be carried
through.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from tests.faults.harness.cluster import Cluster
from tests.faults.kinds.catalogue import KINDS
from tests.faults.kinds.state import Skipped
from tests.faults.report import Report
from tests.faults.round import Round, running
from tests.helpers.postgres import INSTALL, Postgres, binaries, server

SHOWN = 10  # of what slowness has broken, in one round


class Servers:
    """One broker, or three, and a PostgreSQL server, each started when the first round wants it."""

    def __init__(self, home: Path, cleanup: ExitStack) -> None:
        self._home, self._cleanup = home, cleanup
        self._made: dict[int, Cluster] = {}
        self._postgres: Postgres | None = None

    def postgres(self) -> Postgres:
        """Raises Skipped where none is installed."""
        if self._postgres is None:
            if (programs := binaries()) is None:
                raise Skipped(f"no PostgreSQL is installed here; get one with: {INSTALL}")
            self._postgres = self._cleanup.enter_context(server(programs))
        return self._postgres

    def cluster(self, brokers: int) -> Cluster:
        if brokers not in self._made:
            cluster = Cluster(self._home / f"brokers-{brokers}", brokers)
            self._made[brokers] = cluster
            self._cleanup.callback(cluster.close)
        return self._made[brokers]


def _terminated(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


@click.command()
@click.option("--minutes", type=float, default=30.0, show_default=True, help="No round begins after so long.")
@click.option("--rounds", type=int, default=0, help="At most so many rounds; 0: as many as there is time for.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Only these; repeatable.")
@click.option("--postgresql", is_flag=True, help="Tables that are in SQL are there in all rounds, not in SQLite.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the figures.")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Where all happens.  [default: a new directory, thrown away if all is well]",
)
def main(
    minutes: float,
    rounds: int,
    seed: int,
    kinds: tuple[str, ...],
    postgresql: bool,
    file: Path | None,
    home: Path | None,
) -> None:
    """Injects faults until the time is up."""
    signal.signal(signal.SIGTERM, _terminated)
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    report = Report(seed)
    deadline = time.monotonic() + 60 * minutes
    with ExitStack() as cleanup:
        place = home or Path(tempfile.mkdtemp(prefix="faults-"))
        servers = Servers(place, cleanup)
        for number, name in enumerate(itertools.cycle(kinds or KINDS)):
            if time.monotonic() > deadline or number == (rounds or -1):
                break
            one_round(report, name, seed + number, servers, postgresql, place / f"round-{number}", console)
    if not home and not report.bad:
        shutil.rmtree(place)
    report.show(console)
    if file:
        file.write_text(report.json())
    sys.exit(1 if report.bad else 0)


def one_round(
    report: Report, name: str, seed: int, servers: Servers, postgresql: bool, home: Path, console: Console
) -> None:
    """Runs it, says how it went, and goes on whatever has happened."""
    kind = KINDS[name]
    made: Round | None = None
    try:
        postgres = servers.postgres() if postgresql or kind.postgres else None
        cluster = servers.cluster(kind.brokers)
        with running(name, seed, cluster, home, proxied=kind.proxied, postgres=postgres) as made:
            kind.run(made, kind.times)
    except Skipped as why:
        report.skip(name, str(why))
        console.print(f"[yellow]{name}: SKIPPED: {why}[/]")
        return
    except Exception as error:
        console.print(f"[red]{name} (seed {seed}) could not be carried through:[/] {error!r}", highlight=False)
        console.print(traceback.format_exc(), highlight=False, markup=False)
        report.fail(name, f"seed {seed}: {error}")
    if made is None:
        return
    result = made.result
    report.add(result)
    console.print(
        f"{name}, seed {seed}: {result.injected} faults, {result.sent} commands, {result.seconds:.0f} s",
        highlight=False,
    )
    if result.bad or report.failed(name):
        console.print("\n".join([str(result.damage), *result.notes, f"kept: {home}"]), highlight=False, markup=False)
    for death in result.deaths:
        console.print(f"  a worker ended: {death}", highlight=False, markup=False)
    if (slow := result.slowness) is not None:
        for said in (*slow.paces, *slow.broken[:SHOWN]):
            console.print(f"  {said}", highlight=False, markup=False)


if __name__ == "__main__":
    main()

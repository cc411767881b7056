"""`pipeline verify`: check the history of a running system."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from pipeline.cli.options import Where, topology_argument, where
from pipeline.cli.shown import progress, say_json
from pipeline.cli.values import Moment


@click.command()
@topology_argument
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only this service; repeatable.")
@click.option("--no-tables", is_flag=True, help="Check the topics only; no worker has to run.")
@click.option(
    "--decided-since",
    type=Moment(),
    metavar="TIME|AGE",
    help="Commands stored before, such as 2h ago, were decided by other code: take what followed from them as it is.",
)
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="Findings of each kind to show.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@where()
def command(
    services: tuple[str, ...], no_tables: bool, decided_since: int | None, limit: int, as_json: bool, where: Where
) -> None:
    """Prove that every record of TOPOLOGY's services has had its effect exactly once.

    Reads all their topics, replays each command, event and message, and compares the results with the logs, the
    changelogs and the workers' tables. If nothing moves, also checks the final state: sagas have ended, nothing is
    held, and TOPOLOGY's invariants hold. Changes nothing, and may run while workers run. Exit code 0: nothing is wrong.
    1: something is. 2: it could not look. What it could not judge is counted.
    """
    from pipeline.verify.run import verify
    from pipeline.verify.show import show

    with progress(silent=as_json) as step:
        report = verify(
            where.address,
            where.topology,
            services,
            tables=not no_tables,
            limit=limit,
            decided_since_ms=decided_since,
            step=step,
        )
    if as_json:
        say_json(report.as_json())
    else:
        show(Console(), report)
    sys.exit(0 if report.clean else 1)

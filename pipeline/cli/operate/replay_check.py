"""`pipeline replay-check`: what changed code would make otherwise of what is recorded."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.cli.options import Where, refuse_with, topology_argument, where
from pipeline.cli.shown import progress, say_json
from pipeline.cli.values import FilePath, Moment


@click.command()
@topology_argument
@click.option(
    "--file",
    "files",
    type=FilePath(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Read what pipeline export has written, and no broker; repeatable.",
)
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only this service; repeatable.")
@click.option("--since", type=Moment(), metavar="TIME|AGE", help="Compare only what was stored since then.")
@click.option(
    "--sample",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Take such a part of all keys, each with its whole history.",
)
@click.option("--limit", type=click.IntRange(1), default=3, show_default=True, help="Differences of each kind to show.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@where()
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[Path, ...],
    services: tuple[str, ...],
    since: int | None,
    sample: float,
    limit: int,
    as_json: bool,
    where: Where,
) -> None:
    """Run recorded events and commands through TOPOLOGY's present code, and say what differs from what is recorded.

    \b
    pipeline replay-check topologies --file shop.avro      # without a broker, as in a pull request
    pipeline replay-check topologies --since 7d --sample 0.1

    Each event has to be read and folded; states, and rows of projections, are compared by field. Each command of which
    the outcome is recorded is decided again in the state that the recorded events give. States are folded from the
    first event on, whatever --since says. Changes nothing.

    Exit code 0: nothing differs. 1: something does. 2: it could not look. What it could not compare is counted.
    """
    from pipeline.adapters.exported.reading import ExportFile
    from pipeline.verify.change.report import Scope
    from pipeline.verify.change.run import check_broker, check_files
    from pipeline.verify.change.show import show

    if files:
        refuse_with(ctx, "--file", "bootstrap", why="a file needs no broker")
    scope = Scope(since, sample)
    with progress(silent=as_json) as step:
        if files:
            opened = [ExportFile(path) for path in files]
            report = check_files(opened, where.topology, services, scope=scope, limit=limit, step=step)
        else:
            report = check_broker(where.address, where.topology, services, scope=scope, limit=limit, step=step)
    if as_json:
        say_json(report.as_json())
    else:
        show(report)
    sys.exit(0 if report.clean else 1)

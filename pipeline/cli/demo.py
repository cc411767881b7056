"""`pipeline demo`: the whole thing, in one command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from pipeline.cli.options import HOME


@click.command()
@click.option(
    "--input", "source", type=click.Path(path_type=Path), help="Invoice file, CSV or gzip.  [default: December 2009]"
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the result here.")
@click.option("--keep", is_flag=True, help="Leave broker and worker running afterwards, for queries.")
@click.option("--stop", "stop_kept", is_flag=True, help="End what --keep has left running.")
@click.option("--processes", type=click.IntRange(1, 16), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--feed-first",
    is_flag=True,
    help="Send everything before the worker starts: the rate is then the worker's alone, from its first commit on.",
)
@click.option("--bootstrap", metavar="HOST:PORT", help="Kafka to use.  [default: a local one, started for the demo]")
@click.option("--fresh", is_flag=True, help="With --bootstrap: first delete the shop's topics and all they hold.")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=HOME / "demo",
    show_default=True,
    help="Directory for the demo's broker and tables; emptied at the start.",
)
def command(
    source: Path | None,
    json_file: Path | None,
    keep: bool,
    stop_kept: bool,
    processes: int,
    feed_first: bool,
    bootstrap: str | None,
    fresh: bool,
    home: Path,
) -> None:
    """Run a real shop's invoices through the pipeline and check every figure against the file.

    Starts Kafka and a worker, sends the commands, waits until every table has caught up, reads the tables and compares
    them with sums made straight from the file. Exit code 1 when any figure differs.
    """
    from pipeline.demo.report import show
    from pipeline.demo.run import SHIPPED, Demo, stop

    home = home.resolve()
    console = Console()
    if stop_kept:
        console.print("stopped" if stop(home) else "nothing was running")
        return
    if json_file is not None and not json_file.parent.is_dir():
        raise click.UsageError(f"--json: there is no directory {json_file.parent}")
    demo = Demo(home, console, bootstrap or "", processes, keep, fresh, feed_first)
    result = demo.run(source or SHIPPED)
    show(console, result)
    differences = result.pop("differences")
    del result["customer_countries"]
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    console.print(
        f"{result['commands']:,} commands and {result['events']:,} events in {result['seconds']:.1f} s: "
        f"[bold]{result['commands_per_second']:,.0f} commands/s[/], "
        f"{result['events'] / result['seconds']:,.0f} events/s"
    )
    if differences:
        for line in differences[:20]:
            console.print(f"[red]{line}[/]", highlight=False)
        console.print(f"[bold red]{len(differences)} figures differ from the file[/]")
        sys.exit(1)
    console.print("[bold green]verified: every figure equals the recomputation from the file[/]")
    if keep:
        shown = home.relative_to(Path.cwd()) if home.is_relative_to(Path.cwd()) else home
        where = f"--bootstrap {bootstrap}" if bootstrap else f"--home {shown}"
        console.print(
            f"next: pipeline query inventory 85048 {where}\n"
            f"      pipeline query revenue --prefix France {where}\n"
            f"end:  pipeline demo --stop --home {shown}",
            highlight=False,
            soft_wrap=True,
        )
    else:
        console.print("next: pipeline demo --keep    (leaves it all running, for pipeline query)", highlight=False)

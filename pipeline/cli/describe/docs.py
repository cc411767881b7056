"""`pipeline docs`: a topology described for people and for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import named, schemas_option, topology_argument
from pipeline.cli.values import FilePath
from pipeline.describe.graph import mermaid

out_option = click.option(
    "--out", type=FilePath(dir_okay=False, path_type=Path), metavar="FILE", help="Where to write it, if not to stdout."
)


@click.group()
def command() -> None:
    """Describe a topology: a picture of how data flows. It needs no broker."""


@command.command()
@topology_argument
@click.option("--all", "private", is_flag=True, help="Also topics that services keep for themselves, such as queues.")
@out_option
@schemas_option
def graph(topology: str, private: bool, out: Path | None, schemas: Path | None) -> None:
    """Draw TOPOLOGY in Mermaid, as GitHub and most editors show it: services, what they own, follow and ask.

    Without --all, commands are arrows into their aggregate, and the only topics are event logs.
    """
    _write(mermaid(named(topology, schemas).topology, private=private), out)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text)
        click.echo(f"wrote {out}")

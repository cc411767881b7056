"""`pipeline docs`: a topology described for people and for other tools."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipeline.cli.options import named, schemas_option, topology_argument
from pipeline.cli.values import FULL_TEXT, FilePath
from pipeline.describe.asyncapi import asyncapi as describe
from pipeline.describe.graph import mermaid

out_option = click.option(
    "--out", type=FilePath(dir_okay=False, path_type=Path), metavar="FILE", help="Where to write it, if not to stdout."
)


@click.group()
def command() -> None:
    """Describe a topology: a picture of how data flows, or an AsyncAPI document. It needs no broker."""


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


@command.command()
@topology_argument
@click.option("--version", type=FULL_TEXT, default="1.0.0", metavar="TEXT", help="The document's version.")
@click.option(
    "--partitions", type=click.IntRange(1, 10_000), help="How many each topic was created with, if it is to say so."
)
@click.option("--public", is_flag=True, help="Leave out the topics that services keep for themselves.")
@out_option
@schemas_option
def asyncapi(
    topology: str, version: str, partitions: int | None, public: bool, out: Path | None, schemas: Path | None
) -> None:
    """Describe TOPOLOGY as an AsyncAPI 3 document in JSON: its topics, Avro schemas, senders and receivers.

    Descriptions are the docs of the schemas, and the docstrings of modules and functions.
    """
    loaded = named(topology, schemas).topology
    document = describe(loaded, version=version, partitions=partitions, public=public)
    _write(json.dumps(document, indent=2, ensure_ascii=False) + "\n", out)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text)
        click.echo(f"wrote {out}")

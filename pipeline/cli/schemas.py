"""`pipeline schemas`: check and register Avro schemas."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.cli.options import named, schemas_option, topology_argument
from pipeline.cli.values import FilePath
from pipeline.engine.plan import ServicePlan


@click.group()
def command() -> None:
    """The Avro schemas: one .avsc per topic, and a manifest that gives each version a permanent id."""


@command.command()
@topology_argument
@schemas_option
def check(topology: str, schemas: Path | None) -> None:
    """Check the message classes of TOPOLOGY against the schemas, and the schemas against the manifest."""
    loaded = named(topology, schemas).topology
    for service in loaded.chosen(()):
        ServicePlan(service, codecs(loaded.schemas))
        click.echo(f"{service.name}: classes and schemas agree")


@command.command()
@click.option(
    "--schemas",
    type=FilePath(path_type=Path),
    default=Path("schemas"),
    envvar="PIPELINE_SCHEMAS",
    show_default=True,
    show_envvar=True,
    help="Directory.",
)
def register(schemas: Path) -> None:
    """Give each new or changed .avsc an id in the manifest; commit both."""
    changed = Registry(schemas).register()
    for topic in changed:
        click.echo(f"registered {topic}")
    if not changed:
        click.echo("nothing has changed")

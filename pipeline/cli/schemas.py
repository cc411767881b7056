"""`pipeline schemas`: check and register Avro schemas."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.files import schema_files
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
@topology_argument
@schemas_option
@click.option("--check", is_flag=True, help="Write nothing; show what differs, with exit code 1 if anything does.")
def generate(topology: str, schemas: Path | None, check: bool) -> None:
    """Write the .avsc of each topic that TOPOLOGY owns, from its message classes.

    Docstrings, and comments behind fields, become the docs. Namespaces, and docs that the classes do not have, stay as
    they are. Review and commit the files, then give them ids with: pipeline schemas register
    """
    loaded = named(topology, schemas).topology
    files = schema_files(loaded.services.values(), loaded.schemas)
    different = [each for each in files if each.differs]
    if check and different:
        for each in different:
            click.echo(each.difference())
        raise click.ClickException(
            f"{len(different)} of {len(files)} schemas differ from the classes; write them with: "
            f"pipeline schemas generate {topology}"
        )
    for each in different:
        each.path.parent.mkdir(parents=True, exist_ok=True)
        each.path.write_text(each.text)
        click.echo(f"wrote {each.path}")
    click.echo(f"{len(files) - len(different)} of {len(files)} schemas are as the classes have them")


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

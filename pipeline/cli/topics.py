"""`pipeline topics`: create and check."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import admin
from pipeline.adapters.topics import check_topics, create_topics
from pipeline.cli.options import bootstrap_of, bootstrap_option, home_option, schemas_option
from pipeline.runtime.wiring import Wiring
from pipeline.topology import load


@click.group()
def command() -> None:
    """The topics of a topology: created explicitly, never by accident."""


@command.command()
@click.argument("topology")
@click.option(
    "--service", "services", multiple=True, metavar="NAME", help="Only this service's own topics; repeatable."
)
@click.option(
    "--partitions", type=click.IntRange(1, 10_000), default=4, show_default=True, help="Partitions of each topic."
)
@click.option("--replication", type=click.IntRange(1), default=1, show_default=True, help="Copies of each partition.")
@bootstrap_option
@home_option
@schemas_option
def create(
    topology: str,
    services: tuple[str, ...],
    partitions: int,
    replication: int,
    bootstrap: str | None,
    home: Path,
    schemas: Path | None,
) -> None:
    """Create the topics of TOPOLOGY that do not exist yet.

    The number of partitions is for good: keys are spread by it.
    """
    loaded = load(topology, schemas)
    wirings = [Wiring(service, codecs(loaded.schemas)) for service in loaded.chosen(services)]
    created = create_topics(admin(bootstrap_of(bootstrap, home)), wirings, partitions, replication)
    for topic in created:
        click.echo(f"created {topic}")
    if not created:
        click.echo("all topics are there")


@command.command()
@click.argument("topology")
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only this service; repeatable.")
@bootstrap_option
@home_option
@schemas_option
def check(topology: str, services: tuple[str, ...], bootstrap: str | None, home: Path, schemas: Path | None) -> None:
    """Check that the topics TOPOLOGY needs exist and have partitions that fit each other."""
    loaded = load(topology, schemas)
    client = admin(bootstrap_of(bootstrap, home))
    for service in loaded.chosen(services):
        check_topics(client, Wiring(service, codecs(loaded.schemas)), topology)
        click.echo(f"{service.name}: topics are as they should be")

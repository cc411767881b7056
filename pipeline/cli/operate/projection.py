"""`pipeline projection`: build a projection's next version beside the one that readers get, and switch."""

from __future__ import annotations

import platform
import sys
import time
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from pipeline.cli.operate.progress import progress_bar
from pipeline.cli.options import Where, database_option, topology_option, user, where
from pipeline.cli.shown import say, say_json, say_rows, shown

if TYPE_CHECKING:
    from pipeline.rebuild.comparing import Differences
    from pipeline.rebuild.subject import Subject

version_option = click.option(
    "--version", type=click.IntRange(1), help="Which version.  [default: the newest declared]"
)
by_option = click.option("--by", default=user, help="Who does it; kept in the record.  [default: you]")


@click.group()
def command() -> None:
    """Versions of projections; docs/rebuild.md is a walk-through."""


@command.command()
@click.argument("name")
@version_option
@click.option("--switch", "switches", is_flag=True, help="Then switch readers to it, unless records are parked.")
@click.option(
    "--node", default=platform.node(), envvar="PIPELINE_NODE", help="Name of this machine.  [default: the host name]"
)
@database_option
@by_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@where(topology_option)
def rebuild(
    name: str,
    version: int | None,
    switches: bool,
    node: str,
    databases: tuple[str, ...],
    by: str,
    as_json: bool,
    where: Where,
) -> None:
    """Build the next version of NAME from the beginning of its sources, and compare it with what readers get.

    Workers go on meanwhile. If some serve that version already, they build it, and this command waits. If killed and
    started again, it continues where it was. It ends once the version has caught up.
    """
    from pipeline.adapters.kafka import admin
    from pipeline.adapters.kafka.owners import Router
    from pipeline.adapters.kafka.reader_versions import Versions
    from pipeline.adapters.kafka.schemas.topic import SchemasTopic
    from pipeline.client.drive import Driver
    from pipeline.client.holds import Holds
    from pipeline.rebuild.building import Progress as Reached
    from pipeline.rebuild.building import build, watch
    from pipeline.rebuild.comparing import compare, waiting
    from pipeline.rebuild.subject import prepare, subject
    from pipeline.rebuild.switching import switch
    from pipeline.worker.databases import databases as opened
    from pipeline.worker.databases import parse_databases

    address, loaded = where.address, where.topology
    client, built = admin(address), subject(loaded, name, version)
    prepare(client, built, where.name)
    kept = opened([built.plan], parse_databases(databases), where.home / "state", loaded)
    versions, reached = Versions(address, loaded), Reached(address, client, built)
    try:
        reached.look()
        with progress_bar(f"{name}, version {built.version}", quiet=as_json) as step:
            step(reached.done, reached.total)
            router, service = Router(client, loaded), built.service.name
            holds, driver = Holds(router, time.monotonic), Driver()
            watch(
                reached,
                lambda: router.workers(service),
                step,
                lambda: driver.run(holds.of((service,))).get(service, ""),
            )
            if not reached.level:
                shared = kept.get(built.service.name)
                build(address, built, where.home / "state", node, reached, step, shared)
        parked = waiting(address, built.plan)
        current, found = versions.current(name), None
        if current != built.version:
            SchemasTopic(address, built.make.registry).catch_up()
            found = compare(address, built.make.registry, name, current, built.version)
        if switches and current != built.version and not parked:
            switch(address, loaded, built, by)
            current = built.version
    finally:
        reached.close()
        versions.close()
        for each in kept.values():
            each.close()
    if as_json:
        told: dict[str, Any] = {"projection": name, "version": built.version, "readers_get": current}
        told |= {"records": reached.done, "begun_at": reached.begun, "parked_records": parked}
        say_json(told | {"differences": found and found.as_json()})
    else:
        _show(built, current, parked, found)
    sys.exit(1 if parked else 0)


@command.command()
@click.argument("name")
@version_option
@by_option
@where(topology_option)
def switch(name: str, version: int | None, by: str, where: Where) -> None:
    """Switch readers of NAME to its newest version, or to the one that --version names, which may be older.

    Waits until all workers can serve it, and returns once all of them do.
    """
    from pipeline.rebuild.subject import subject
    from pipeline.rebuild.switching import switch as to

    chosen = subject(where.topology, name, version)
    workers = to(where.address, where.topology, chosen, by)
    click.echo(f"readers of {name} get version {chosen.version}, from all {workers} workers")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@where(topology_option)
def list_(as_json: bool, where: Where) -> None:
    """List the projections with several declared versions, and which one readers get."""
    from pipeline.adapters.kafka.reader_versions import Versions
    from pipeline.adapters.kafka.reader_versions import as_json as plain

    versions = Versions(where.address, where.topology)
    state = versions.state()
    versions.close()
    if as_json:
        say_json(plain(state))
        return
    titles = ("projection", "readers get", "declared as")
    told = [(name, f"version {each.version}", ", ".join(each.tables.values())) for name, each in state.items()]
    if told:
        say_rows([dict(zip(titles, row, strict=True)) for row in told])
    else:
        say("no projection has a second version declared")


@command.command("drop-old")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@where(topology_option)
def drop_old(name: str, yes: bool, where: Where) -> None:
    """Delete the topics of the versions of NAME before the one that readers get.

    Refused while the topology or a worker still declares one of them.
    """
    from pipeline.adapters.kafka import admin
    from pipeline.adapters.kafka.reader_versions import Versions
    from pipeline.adapters.kafka.topics import delete_topics
    from pipeline.rebuild.switching import droppable

    address, loaded = where.address, where.topology
    client = admin(address)
    versions = Versions(address, loaded)
    current = versions.current(name)
    versions.close()
    topics = droppable(client, loaded, name, current)
    for topic in topics:
        click.echo(topic)
    if not topics:
        click.echo(f"the versions of {name} before {current} have no topics left")
    elif yes or click.confirm(f"Delete these {len(topics)} topics for good?"):
        delete_topics(client, topics)
        click.echo("deleted")


def _show(built: Subject, current: int, parked: int, found: Differences | None) -> None:
    console = Console(highlight=False)
    if parked:
        console.print(f"{parked} records are parked, as its functions raise: pipeline parked list", style="bold red")
    if found is not None:
        console.print(
            f"{found.same} rows are the same, {found.changed} differ, {found.added} are new, {found.missing} are gone"
        )
        for example in found.examples:
            say(f"  {example['key']}: {shown(example['old'])} -> {shown(example['new'])}")
    if current == built.version:
        console.print(f"readers of {built.name} get version {current}")
    else:
        console.print(
            f"version {built.version} has caught up; readers get version {current}. Start the workers with "
            f"this code, then: pipeline projection switch {built.name}"
        )

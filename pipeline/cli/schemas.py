"""`pipeline schemas`: check and register Avro schemas."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from pipeline.adapters.avro.codec import Codec, served_codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.codegen import python_source
from pipeline.adapters.avro.schemas.compatibility import Break, breaks, explained
from pipeline.adapters.avro.schemas.files import SECRET, schema_files
from pipeline.adapters.avro.served import served_by
from pipeline.adapters.kafka.schemas.topic import SchemasTopic
from pipeline.cli.options import Where, json_option, named, schemas_option, topology_argument, where
from pipeline.cli.shown import say, say_json
from pipeline.cli.values import FilePath
from pipeline.develop.schema_updates import committed
from pipeline.engine.plan import ServicePlan

directory_option = click.option(  # of those who need no topology
    "--schemas",
    type=FilePath(path_type=Path),
    default=Path("schemas"),
    envvar="PIPELINE_SCHEMAS",
    show_default=True,
    show_envvar=True,
    help="Directory.",
)


@click.group()
def command() -> None:
    """The Avro schemas: one .avsc per topic, and a manifest with the id of each version."""


@command.command()
@topology_argument
@schemas_option
@json_option
def check(topology: str, schemas: Path | None, as_json: bool) -> None:
    """Check the schemas against their earlier versions, and the message classes of TOPOLOGY against the schemas.

    Works before `pipeline schemas register`, too. Exit code 1: records that were written before, or that others write,
    could not be read.
    """
    loaded = named(topology, schemas).topology
    registry = Registry(loaded.schemas)
    found = list(breaks(registry))
    _show(found, as_json=as_json)
    for topic in registry.topics():
        if count := registry.given_up(topic):
            if as_json:
                say_json({"topic": topic, "given_up": count})
            else:
                say(f"{topic}: version {count + 1} was forced; records of those before it may not be readable")
    for topic in registry.adopt():
        if as_json:
            say_json({"topic": topic, "registered": False})
        else:
            say(f"{topic}: new or changed; register it with: pipeline schemas register")
    for service in loaded.chosen(()):
        ServicePlan(service, partial(Codec, registry))
        if as_json:
            say_json({"service": service.name, "agrees": True})
        else:
            say(f"{service.name}: classes and schemas agree")
    if found:
        sys.exit(1)


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
        each.write()
        click.echo(f"wrote {each.path}")
    for question in (question for each in different for question in each.questions()):
        click.echo(question)
    if different:
        click.echo("give the new versions their ids with: pipeline schemas register")
    else:
        click.echo(f"all {len(files)} schemas are as the classes have them")


@command.command()
@directory_option
@click.option(
    "--force", is_flag=True, help="Register also what breaks the reading of earlier versions, and give these up."
)
@json_option
def register(schemas: Path, force: bool, as_json: bool) -> None:
    """Give each new or changed .avsc its id in the manifest; commit both. The id follows from what the schema says.

    Exit code 1: a schema breaks the reading of an earlier version, and nothing is registered.
    """
    registry = Registry(schemas)
    found = [each for each in breaks(registry) if registry.is_changed(each.topic)]
    _show(found, as_json=as_json)
    if found and not force:
        given_up = "give up what it names with --force"
        if committed(schemas).isdisjoint((each.topic, each.id) for each in found):
            given_up = (
                "forget versions that were never released, and the local broker's records, with: "
                "pipeline dev TOPOLOGY --fresh (or make fresh, "
                f"in a project of pipeline new); else {given_up}"
            )
        say(f"error: nothing is registered; see the cure of each, or {given_up}", err=True)
        sys.exit(1)
    for topic in (changed := registry.register({each.topic for each in found})):
        (schema_id, _), count = registry.current(topic), registry.given_up(topic)
        if as_json:
            say_json({"topic": topic, "registered": True, "id": schema_id, "given_up": count})
        else:
            say(f"registered {topic}" + (f"; its versions before {count + 1} are given up" if count else ""))
    if not changed and not as_json:
        say("nothing has changed")


@command.command()
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@directory_option
@click.option(
    "--out", type=FilePath(dir_okay=False, path_type=Path), metavar="FILE", help="Where to write it, if not to stdout."
)
def codegen(topics: tuple[str, ...], schemas: Path, out: Path | None) -> None:
    """Write the message classes of each TOPIC as Python, from its .avsc, without the envelope.

    For schemas that were written first, and for followers of another's topics. What generate would not write back is in
    comments.
    """
    registry = Registry(schemas)
    text = python_source({topic: registry.read(topic) for topic in topics})
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text)
        click.echo(f"wrote {out}")


@command.command()
@topology_argument
@json_option
@where()
def publish(as_json: bool, where: Where) -> None:
    """Put the schemas of what TOPOLOGY writes on the broker's topic pipeline.schemas, all versions.

    With `pipeline --registry URL` the present ones are registered there, too. Workers and clients do so before they
    write. By hand it serves those who may not, or a service that is to start later than what follows it.
    """
    loaded = where.topology
    make = served_codecs(loaded.schemas, loaded.names, registers=True)
    for service in loaded.chosen(()):
        ServicePlan(service, make, loaded.names, SECRET)
    for each in SchemasTopic(where.address, make.registry).publish(make.written()):
        if as_json:
            say_json({"topic": each.topic, "id": each.id, "published": True})
        else:
            say(f"published {each.topic}, id {each.id}")
    for topic, number, subject in served_by(make.registry):
        if as_json:
            say_json({"topic": topic, "id": number, "subject": subject})
        else:
            say(f"registered {subject}, id {number}")


def _show(found: Sequence[Break], *, as_json: bool) -> None:
    """Print what breaks: a heading for each topic and version, and below it each place with its cure."""
    for each in found if as_json else ():
        say_json(each.as_json())
    for line in () if as_json else explained(found):
        say(line)

"""`pipeline export`: records of topics to an Avro file."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import Where, topology_argument, where
from pipeline.cli.shown import progress, say, say_json
from pipeline.cli.values import FilePath, Moment
from pipeline.errors import TopicError


@click.command()
@topology_argument
@click.option("--topic", "topics", multiple=True, metavar="TOPIC", help="Only this topic; repeatable.")
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only what belongs to this service.")
@click.option("--since", type=Moment(), metavar="TIME|AGE", help="Only what was stored since then, such as 2h ago.")
@click.option("--until", type=Moment(), metavar="TIME|AGE", help="Only what was stored before then.")
@click.option("--key", help="Only records of this key.")
@click.option(
    "--to", "path", type=FilePath(dir_okay=False, path_type=Path), required=True, help="The file; it may be there."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@where()
def command(
    topics: tuple[str, ...],
    services: tuple[str, ...],
    since: int | None,
    until: int | None,
    key: str | None,
    path: Path,
    as_json: bool,
    where: Where,
) -> None:
    """Write records of TOPOLOGY's topics, exactly as they stand there, to an Avro container file.

    \b
    pipeline export topologies --to shop.avro                          # all that a replay check makes use of
    pipeline export topologies --topic orders.event --to orders.avro
    pipeline export topologies --topic orders.command --since 7d --to week.avro

    Only what is committed. The file has topic, partition, offset, time, key, headers and value of each record, and all
    schemas: any program that reads Avro can read it. It takes its name once it is whole. Workers may run meanwhile.
    """
    from pipeline.export.exporting import Part, export, judged_topics
    from pipeline.verify.run import known_registry, open_history

    if not path.resolve().parent.is_dir():
        raise click.UsageError(f"--to: there is no directory {path.parent}")
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since has to be before --until: there is nothing between them")
    topology = where.topology
    chosen = topics or judged_topics(topology.chosen(services))
    registry = known_registry(where.address, topology)
    # Of all services: others, too, fold what a service has, and the file says how far.
    with open_history(where.address, topology, registry) as history, progress(silent=as_json) as step:
        missing = [topic for topic in chosen if topic not in history.topics()]
        if missing and (topics or len(missing) == len(chosen)):
            raise TopicError(f"the broker has no topic {', '.join(missing)}; correct the name, or the topology")
        chosen = [topic for topic in chosen if topic not in missing]
        records = export(history, topology, chosen, path, Part(since, until, key), step, registry)
    if as_json:
        say_json({"records": records, "bytes": path.stat().st_size, "topics": chosen, "missing": missing})
        return
    say(f"{records:,} records of {len(chosen)} topics in {path}, {path.stat().st_size:,} bytes")
    if missing:
        say(f"the broker has no topic {', '.join(missing)} yet", err=True)

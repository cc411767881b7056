"""`pipeline import`: records of an export file to a topic of another cluster."""

from __future__ import annotations

import time
from pathlib import Path

import click

from pipeline.cli.options import Where, topology_argument, where
from pipeline.cli.shown import progress, say, say_json
from pipeline.cli.values import FilePath


@click.command()
@topology_argument
@click.argument("path", metavar="FILE", type=FilePath(exists=True, dir_okay=False, path_type=Path))
@click.option("--to-topic", required=True, metavar="TOPIC", help="Where the records go.")
@click.option("--topic", metavar="TOPIC", help="Which topic of the file.  [default: the same, or its only one]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@where()
def command(path: Path, to_topic: str, topic: str | None, as_json: bool, where: Where) -> None:
    """Take the records of one topic from FILE, written by pipeline export, into a topic of this cluster.

    \b
    pipeline import topologies shop.avro --to-topic orders.command      # decided here anew, each id once
    pipeline import reports.py shop.avro --to-topic orders.event        # for a service that only follows orders

    Commands that came from outside go in like those of a client: under the ids that they had, issued now, without a
    wait for replies. What services send one another is left out, as they send it again. Anything else goes exactly
    as it was into a topic that no service of TOPOLOGY owns, and that is empty.

    Exit code 2: refused, nothing was imported, or the broker was away.
    """
    from pipeline.adapters.exported.reading import ExportFile
    from pipeline.export.importing import KafkaTarget, import_file

    file = ExportFile(path)
    total = int(file.about["records"])
    with progress(silent=as_json) as step:
        imported = import_file(
            file,
            where.topology,
            to_topic,
            KafkaTarget(where.address),
            int(1000 * time.time()),
            topic,
            lambda done: step(to_topic, done, total),
        )
    if as_json:
        say_json({"records": imported.records, "left_out": dict(imported.left_out), "topic": to_topic})
        return
    say(f"{imported.records:,} records stored on {to_topic}")
    for why, count in imported.left_out.items():
        say(f"{count:,} left out: {why}")

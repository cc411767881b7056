"""`pipeline backup`: logs and tables to a directory or an object store; what is there, and whether it is whole."""

from __future__ import annotations

import platform
import re
import tempfile
from pathlib import Path

import click

from pipeline.cli.options import Where, home_option, json_option, topology_argument, where
from pipeline.cli.shown import progress, say, say_json, say_rows
from pipeline.client.wire.as_of import iso

to_option = click.option(
    "--to", "url", required=True, metavar="URL", help="A directory, or such as s3://bucket/folder; made if missing."
)


@click.group()
def command() -> None:
    """Back up event logs with all that belongs to them, and the tables of workers.

    \b
    pipeline backup logs topologies --to /backups/shop          # again: only what has come since
    pipeline backup logs topologies --to s3://bucket/shop
    pipeline backup tables --to /backups/shop --home .pipeline
    pipeline backup list /backups/shop
    pipeline backup check /backups/shop

    The way back is: pipeline restore. Steps of a drill: docs/howto/backup.md.
    """


@command.command("logs")
@topology_argument
@to_option
@json_option
@where()
def logs(url: str, as_json: bool, where: Where) -> None:
    """Back up all topics of TOPOLOGY, from where the last backup ended, as of one moment.

    Workers may run, and commands may come. For a moment, mostly under a second, services fold nothing: they commit
    what they have, and where each log ends then is the cut. What is read is what stands before it. A backup that was
    killed goes on with the files that it has left.

    Exit code 2: nothing was backed up, or not all; run it again.
    """
    from pipeline.adapters.avro.codec import codecs
    from pipeline.adapters.vault import Vault
    from pipeline.backup.logs import back_up
    from pipeline.engine.plan import ServicePlan
    from pipeline.verify.run import known_registry

    topology = where.topology
    registry = known_registry(where.address, topology)
    plans = [ServicePlan(each, codecs(topology.schemas), topology.names) for each in topology.chosen(())]
    with progress(silent=as_json) as step:
        done = back_up(where.address, topology.name, plans, registry, Vault(url), step)
    point = done.point
    told = {"point": point.number, "records": done.records, "files": done.files, "taken_over": done.kept}
    if as_json:
        say_json(told | {"in_all": point.records, "held_s": round(done.held_s, 3), "end": point.end})
        return
    say(f"point {point.number} in {url}: {done.records:,} records more, {point.records:,} in all")
    if done.kept:
        say(f"{done.kept} files were there already, from a backup that was killed")
    if done.held_s:
        say(f"services waited for {done.held_s:.2f} s")


@command.command("tables")
@to_option
@click.option("--name", metavar="NAME", help="What this machine is called in the backup.  [default: its host name]")
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only this service; repeatable.")
@json_option
@home_option
def tables(url: str, name: str | None, services: tuple[str, ...], as_json: bool, home: Path) -> None:
    """Back up the tables that workers keep under --home, on this machine; only files that are not there yet.

    Workers may run. What is copied is as of the last flush, a minute ago at most, and says up to where each changelog
    is contained; a worker that begins with it reads on from there. Tables in SQL are backed up by their database.
    """
    from pipeline.adapters.vault import Vault
    from pipeline.backup.tables import back_up

    with progress(silent=as_json) as step:
        done = back_up(home, machine(name), Vault(url), services, step)
    rows = [{"service": each.service, "slot": each.slot, "bytes": each.size} for each in done.snapshots]
    if as_json:
        say_json({"name": machine(name), "stored": done.stored, "tables": rows, "unwritten": done.unwritten})
        return
    say_rows(rows)
    if done.unwritten:
        say(f"not on disk yet, so not in the backup: {', '.join(done.unwritten)}")
    say(f"{done.stored:,} bytes more in {url}, of {sum(each.size for each in done.snapshots):,}")


def machine(name: str | None) -> str:
    """Return what a machine is called in a backup. Raises UsageError."""
    found = name or platform.node()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", found):
        raise click.UsageError(f"--name {found!r}: use letters, digits, dots, dashes and underscores")
    return found


@command.command("list")
@click.argument("url")
@json_option
def list_(url: str, as_json: bool) -> None:
    """List what a backup has: the points of logs, each of which can be restored, and the tables of machines."""
    from pipeline.adapters.vault import Vault
    from pipeline.backup.points import numbers, read_point
    from pipeline.backup.tables import snapshots

    vault = Vault(url)
    points = [read_point(vault, number) for number in numbers(vault)]
    rows = [
        {
            "point": p.number,
            "made": iso(p.made_ms),
            "topology": p.topology,
            "topics": len(p.topics),
            "records": p.records,
        }
        for p in points
    ]
    kept = [
        {"name": t.machine, "service": t.service, "slot": t.slot, "made": iso(t.made_ms), "bytes": t.size}
        for t in snapshots(vault)
    ]
    if as_json:
        for row in rows + kept:
            say_json(row)
        return
    for each in (rows, kept):
        if each:
            say_rows(each)
    if not rows and not kept:
        say(f"{url} has nothing: no backup was completed there")


@command.command("check")
@click.argument("url")
@click.option("--point", type=click.IntRange(min=1), help="Which point.  [default: the last]")
@json_option
def check(url: str, point: int | None, as_json: bool) -> None:
    """Read all files of a point, and compare their digests.

    Exit code 2: a file is missing or damaged.
    """
    from pipeline.adapters.vault import Vault
    from pipeline.backup.points import read_point

    vault = Vault(url)
    found = read_point(vault, point)
    files = [each for place in found.files for each in found.log_files(place)]
    with progress(silent=as_json) as step, tempfile.TemporaryDirectory(prefix="pipeline-backup-") as folder:
        for done, each in enumerate(files):
            step(each.topic, done, len(files))
            vault.get(each.name, Path(folder) / "checked", each.digest)
    if as_json:
        say_json({"point": found.number, "files": len(files), "records": found.records})
        return
    say(f"point {found.number}: {len(files)} files with {found.records:,} records are as they were written")

"""`pipeline restore`: a backup's logs into an empty cluster, its tables into the home of a new worker."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import Where, bootstrap_option, home_option, json_option
from pipeline.cli.shown import progress, say, say_json, say_rows

from_option = click.option(
    "--from", "url", required=True, metavar="URL", help="The place of the backup, given as --to when it was made."
)


@click.group()
def command() -> None:
    """Restore logs into an empty cluster, and tables into the home of a new worker.

    \b
    pipeline restore logs --from /backups/shop --bootstrap new:9092
    pipeline verify topologies --bootstrap new:9092 --no-tables
    pipeline restore tables --from /backups/shop --home .pipeline

    What is restored and what is not, and a drill: docs/howto/backup.md.
    """


@command.command("logs")
@from_option
@click.option("--point", type=click.IntRange(min=1), help="As of which backup.  [default: the last]")
@click.option("--replication", type=click.IntRange(min=1), help="Copies of each topic.  [default: the broker's]")
@json_option
@bootstrap_option
@home_option
def logs(
    url: str, point: int | None, replication: int | None, as_json: bool, bootstrap: str | None, home: Path
) -> None:
    """Restore all topics of a backup into a cluster that has none of them.

    Each record gets the offset and the time that it had, and each service stands where it stood. Start workers once it
    is done; they refuse to begin before. Run again after a kill, it goes on with the topics that are not complete.

    Exit code 2: refused, or not all is restored; the message says which.
    """
    from pipeline.adapters.vault import Vault
    from pipeline.backup.points import read_point
    from pipeline.backup.restoring import restore

    address = Where("", None, bootstrap, home).address
    vault = Vault(url)
    chosen = read_point(vault, point)
    with progress(silent=as_json) as step:
        done = restore(address, vault, chosen, replication or -1, step)
    if as_json:
        say_json({"point": chosen.number, "records": done.records, "topics": done.topics, "kept": done.kept})
        return
    say(f"point {chosen.number}: {done.topics} topics are restored; {done.records:,} records in all")
    if done.kept:
        say(f"{done.kept} topics had been restored before")
    say(f"next: start the workers, and then pipeline verify {chosen.topology}")


@command.command("tables")
@from_option
@click.option("--name", metavar="NAME", help="The machine whose tables they were.  [default: the only one there is]")
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only this service; repeatable.")
@json_option
@bootstrap_option
@home_option
def tables(
    url: str, name: str | None, services: tuple[str, ...], as_json: bool, bootstrap: str | None, home: Path
) -> None:
    """Restore tables into --home, where no worker runs: one that starts there reads only what has come since.

    They have to be of this cluster, and no older than half of the delete.retention.ms of their changelogs: older ones,
    and those of another cluster or of topics made again, are refused. Run again after a kill, it goes on.

    Exit code 2: refused; nothing, or not all, is restored.
    """
    from pipeline.adapters.vault import Vault
    from pipeline.backup.tables import choose, restore

    vault = Vault(url)
    chosen = choose(vault, name, services)
    with progress(silent=as_json) as step:
        fetched = restore(Where("", None, bootstrap, home).address, vault, chosen, home, step)
    rows = [{"service": each.service, "slot": each.slot, "bytes": each.size} for each in chosen]
    if as_json:
        say_json({"fetched": fetched, "tables": rows})
        return
    say_rows(rows)
    say(f"{fetched:,} bytes fetched to {home}; next: pipeline worker")

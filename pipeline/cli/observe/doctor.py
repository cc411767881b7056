"""`pipeline doctor`: whether all is as it has to be, and what to do where it is not."""

from __future__ import annotations

import sys
import textwrap

import click

from pipeline.cli.options import Where, json_option, topology_option, where
from pipeline.cli.shown import say, say_json
from pipeline.cli.values import Seconds

WIDTH = 80
MARKS = {"ok": "ok  ", "warning": "WARN", "wrong": "FAIL", "skipped": "–   "}
STYLES = {"ok": "green", "warning": "yellow", "wrong": "red", "skipped": None}


@click.command()
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only what this service needs; repeatable.")
@click.option("--timeout", type=Seconds(1, 600), default=30.0, show_default=True, help="Of the checks, in seconds.")
@json_option
@where(topology_option)
def command(services: tuple[str, ...], timeout: float, as_json: bool, where: Where) -> None:
    """Check the machine, the broker and how the topology stands on it: each is well, or comes with its cure.

    \b
    pipeline doctor
    pipeline doctor --service orders --json

    Versions, disk space, memory, open files, locks; the brokers and their settings, topics, partitions and schemas,
    clocks, rights of this user, open transactions, and whether workers own all partitions. Run it where a worker runs,
    as the user that runs it. It changes nothing; to compare clocks it writes a barrier to a command topic, as reads do,
    and it asks for a transactional id of its own. Exit code 1: something is wrong; warnings alone end with 0.
    """
    from pipeline.doctor.check import Level
    from pipeline.doctor.run import examine

    levels = []
    for checked in examine(where.home, lambda: where.topology, lambda: where.address, services, timeout):
        level, says, cure = checked.finding
        levels.append(level)
        if as_json:
            say_json(checked.as_json())
            continue
        mark = click.style(MARKS[level.value], fg=STYLES[level.value])
        first, *rest = textwrap.wrap(says, WIDTH - 19, break_long_words=False, break_on_hyphens=False) or [""]
        click.echo(f"{mark}  {checked.check:<12} ", nl=False)
        say(first)
        for line in rest:
            say(f"{'':19}{line}")
        if cure and cure != "as it says":
            say(f"{'':19}-> {cure}")
    count = levels.count(Level.WRONG)
    if not as_json:
        warned = levels.count(Level.WARNING)
        say(f"{count} wrong, {warned} warnings" if count or warned else "all is well")
    sys.exit(1 if count else 0)

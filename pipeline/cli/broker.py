"""`pipeline broker`: a local Kafka."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.broker import local
from pipeline.cli.options import home_option, json_option, start_broker
from pipeline.cli.shown import say, say_json
from pipeline.develop.held import check_free
from pipeline.process import Children, orderly_end


@click.group()
def command() -> None:
    """A local Apache Kafka of one node, kept in a directory; its data stays between runs."""


@command.command()
@home_option
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port for clients; 0: that of the last run, or a free one."
)
@click.option("--fresh", is_flag=True, help="Delete the data of earlier runs.")
def up(home: Path, port: int, fresh: bool) -> None:
    """Start it, or find it running. Downloads Kafka the first time.

    Interrupted before it has printed the broker's address, it leaves none running.
    """
    with orderly_end(), Children() as guard:
        running = local.up(home / "broker", port=port, fresh=fresh, say=click.echo, guard=guard)
        click.echo(f"Kafka {local.KAFKA_VERSION} listens on {running.bootstrap} (process {running.pid})")
        guard.release(running.pid)


@command.command()
@home_option
def down(home: Path) -> None:
    """Stop it; its data stays. Refused while a `pipeline dev` uses it."""
    check_free(home)
    click.echo("stopped" if local.down(home / "broker") else "it was not running")


@command.command()
@home_option
@json_option
@click.pass_context
def status(ctx: click.Context, home: Path, as_json: bool) -> None:
    """Say whether it runs, and where. Exit code 1 if it does not."""
    running = local.find(home / "broker")
    if as_json:
        told = {"bootstrap": running.bootstrap, "pid": running.pid} if running else {"bootstrap": None, "pid": None}
        say_json({"runs": running is not None, "version": local.KAFKA_VERSION, **told})
        ctx.exit(0 if running else 1)
    if running is None:
        say(f"not running; start it with: {start_broker(home)}")
        ctx.exit(1)
    click.echo(f"Kafka {local.KAFKA_VERSION} listens on {running.bootstrap} (process {running.pid})")

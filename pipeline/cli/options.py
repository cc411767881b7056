"""Options that several commands share, and their defaults."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline.broker import local
from pipeline.errors import BrokerUnreachable

HOME = Path(".pipeline")
HOME_HELP = "Directory of the local broker and of the workers' tables."

home_option = click.option(
    "--home", type=click.Path(path_type=Path), default=HOME, envvar="PIPELINE_HOME", help=HOME_HELP, show_default=True
)
bootstrap_option = click.option(
    "--bootstrap",
    envvar="PIPELINE_BOOTSTRAP",
    metavar="HOST:PORT",
    help="Kafka to use.  [default: the local broker of --home]",
)
topology_option = click.option(
    "--topology", default="topologies", show_default=True, help="The topology that the workers run."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for machines.")
schemas_option = click.option(
    "--schemas",
    type=click.Path(path_type=Path),
    help="Directory of the .avsc files.  [default: schemas/ beside the topology]",
)


def bootstrap_of(given: str | None, home: Path) -> str:
    """Return the given address, or that of the local broker of `home`. Raises BrokerUnreachable."""
    if given:
        return given
    running = local.find(home / "broker")
    if running is None:
        raise BrokerUnreachable(
            f"no local broker runs in {home}; start one with: pipeline broker up, or name another with --bootstrap"
        )
    return running.bootstrap


def _worth_reading(record: logging.LogRecord) -> bool:
    """Return False for the start and stop of each of Faust's own parts, which it marks with [^."""
    return record.levelno >= logging.WARNING or not str(record.msg).startswith("[^")


def log_to_stderr(level: str) -> None:
    """Log plain lines with time and level to stderr, for commands that run for long."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    handler.addFilter(_worth_reading)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)

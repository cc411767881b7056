"""`pipeline dev`: a topology that runs while it is written."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.cli.defaults import FILE, Defaults, find_defaults
from pipeline.cli.options import Where, database_option, given, topology_argument, where
from pipeline.cli.shown import say
from pipeline.client.wire.plain import plain
from pipeline.errors import PipelineError
from pipeline.process import Ended


@click.command()
@topology_argument
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port to serve HTTP on.  [default: 6066, or another if it is taken]"
)
@database_option
@click.option(
    "--fresh",
    is_flag=True,
    help="Begin with nothing: first delete the local broker's records, the tables, and of the project's own schemas "
    "the versions that Git has no commit of.",
)
@click.option("--keep-broker", is_flag=True, help="Leave the local broker running at the end.")
@click.option("--verbose", is_flag=True, help="Show all that the services log, not only warnings and errors.")
@where()
@click.pass_context
def command(
    ctx: click.Context,
    port: int | None,
    databases: tuple[str, ...],
    fresh: bool,
    keep_broker: bool,
    verbose: bool,
    where: Where,
) -> None:
    """Run TOPOLOGY while you write it: a local Kafka, topics, all services and HTTP, until Ctrl-C.

    Each save of a file that the services are made of makes the schemas of the classes, creates new topics, and starts
    them anew. Their state stays, and nothing is decided twice. What does not load, or could not read what has been
    written, is shown, and the services go on as they were.

    \b
    pipeline dev              # the topology that pipeline.toml names
    pipeline dev shop.py      # a file, a package, a module
    """
    from pipeline.develop.candidate import Order
    from pipeline.develop.place import place_of
    from pipeline.develop.run import run
    from pipeline.develop.session import Settings

    if fresh and where.bootstrap:
        raise click.UsageError(
            f"--fresh deletes the local broker's records, and {where.bootstrap} is another Kafka; leave --fresh out"
        )
    if keep_broker and where.bootstrap:
        raise click.UsageError("--keep-broker is for the local broker, and another Kafka is used; leave it out")
    order = Order(
        topology=where.name,
        schemas=str(where.schemas.absolute()) if where.schemas else None,
        roots=[str(root.absolute()) for root in where.roots],
        bootstrap=where.bootstrap or "",
        home=str(where.home.absolute()),
        port=port or 0,
        databases=databases,
        log_level="INFO" if verbose else "WARNING",
    )
    place = place_of(where.name, where.roots)
    again = _again(ctx)

    def started(url: str, ready: Mapping[str, Any], bootstrap: str) -> None:
        click.echo(_panel(where, url, ready, bootstrap, again))

    try:
        settings = Settings(*_settings(ctx.find_object(Defaults)))
        sys.exit(run(order, place, settings, say=_say, started=started, fresh=fresh, keep_broker=keep_broker))
    except Ended:
        _say("ended")


def _settings(defaults: Defaults | None) -> tuple[Path, Callable[[], str]]:
    """Return the file of the settings, and what says whether they have changed since, and what to do then."""
    path, before = (defaults.path, defaults.values) if defaults else (Path.cwd() / FILE, {})

    def changed() -> str:
        try:
            found = find_defaults(path) if path.exists() else None
        except (PipelineError, OSError) as error:
            return f"{error}; until then commands here do not start"
        now = found.values if found else {}
        names = sorted(name.replace("_", "-") for name in {*before, *now} if before.get(name) != now.get(name))
        if not names:
            return ""
        return f"{' and '.join(names)} changed; to have it so, end this with Ctrl-C, and start pipeline dev again"

    return path, changed


def _say(text: str) -> None:
    say(f"{time.strftime('%H:%M:%S')} {text}", keep="\n")


def _again(ctx: click.Context) -> str:
    """Return the options with which other commands mean the same topology and Kafka."""
    named = [name for name in ("topology", "schemas", "bootstrap", "home") if name in given(ctx)]
    return "".join(f" --{name} {shlex.quote(str(ctx.params[name]))}" for name in named)


def _panel(where: Where, url: str, ready: Mapping[str, Any], bootstrap: str, again: str) -> str:
    """Return what runs and where. A line that is too long is left to the terminal to wrap, so that it can be copied."""
    rows = {
        "services": ", ".join(ready["services"]),
        "HTTP": url,
        "docs": f"{url}/docs",
        "OpenAPI": f"{url}/openapi.json",
        "Kafka": bootstrap if where.bootstrap else f"{bootstrap}, the local broker",
        "home": _short(where.home),
    }
    rows |= {name: f"{call}{again}" for name, call in zip(("try", "then"), ready["try"], strict=False)}
    rows["end"] = "Ctrl-C; the data stays"
    lines = [f"  {name:<8}  {value}" for name, value in rows.items()]
    return plain("\n".join(["", f"{where.name} runs", *lines, ""]), keep="\n")


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path)

"""`pipeline new`: a project outside this repository."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from pipeline.cli.shown import say
from pipeline.cli.values import FULL_TEXT, FilePath
from pipeline.scaffold.creating import SERVICE, create
from pipeline.scaffold.origin import VARIABLE, origin


@click.command()
@click.argument("name", type=FULL_TEXT)
@click.option(
    "--path",
    type=FilePath(path_type=Path),
    metavar="DIR",
    help="The project's folder, new or empty.  [default: one of its name, here]",
)
@click.option(
    "--service", default=SERVICE, type=FULL_TEXT, show_default=True, help="Its first service, and the aggregate in it."
)
@click.option(
    "--pipeline-from",
    "pipeline_from",
    type=FULL_TEXT,
    envvar=VARIABLE,
    metavar="PATH|URL",
    show_envvar=True,
    help="What the project depends on: a checkout or a wheel of kafka-pipeline, a URL such as git+https://…, or "
    "'published'.  [default: the checkout, wheel or URL that this command was installed from, if any]",
)
def command(name: str, path: Path | None, service: str, pipeline_from: str | None) -> None:
    """Make a project NAME with one service, its tests, and all that it needs to run.

    \b
    pipeline new shop
    cd shop
    make demo        # the service on a real Kafka: a command, its outcome, a row
    make test        # its tests, without Kafka

    The service owns rooms, or what --service says: each can be reserved, and released again. Change it into your own,
    or add to it: pipeline add. In NAME, dashes become underscores where Python needs them.
    """
    where = origin(pipeline_from)
    made = create(name, path, service, where)
    place = os.path.relpath(made.folder)
    say(f"made the project {name} in {place}")
    about = {
        f"{made.package}/{service}.py": f"the service {service}: commands, events, state, decide, evolve, a table",
        f"tests/test_{service}.py": "its tests",
        "schemas/": f"{made.schemas} Avro schemas, made from the classes, registered",
        "demo.py": "what make demo does",
        "pipeline.toml": "which topology and Kafka the commands mean",
        "pyproject.toml": "what it depends on",
        "README.md": "what to do next",
    }
    others = [each for each in made.files if each not in about and not each.endswith("__init__.py")]
    width = max(map(len, about))
    for each, what in about.items():
        say(f"  {each.ljust(width)}  {what}")
    say(f"  and {', '.join(others)}")
    say(f"it depends on {where.says}" + ("; --pipeline-from names another" if where.folder or where.url else ""))
    say("next:")
    say(f"  cd {shlex.quote(place)}")
    say("  make demo    # on a real Kafka, which it starts and ends; the first time it installs, some minutes")
    say("  make test")

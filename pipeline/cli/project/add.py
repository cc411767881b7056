"""`pipeline add`: one more part of the project here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.defaults import FILE, Defaults
from pipeline.cli.shown import say
from pipeline.cli.values import FULL_TEXT
from pipeline.errors import ScaffoldError

if TYPE_CHECKING:
    from pipeline.scaffold.adding import Added, Adding

name_argument = click.argument("name", type=FULL_TEXT)
of_option = click.option(
    "--of", type=FULL_TEXT, metavar="AGGREGATE", help="Whose events it follows.  [default: the only one that it can]"
)


def service_option(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option that names a service, with what is taken if it is left out."""
    text = f"The service that has it.  [default: {default}]"
    return click.option("--service", type=FULL_TEXT, metavar="SERVICE", help=text)


@click.group()
def command() -> None:
    """Add a part, with its test, to the project here, and wire it into its service.

    \b
    pipeline add service cars         # an aggregate and a table; its own file
    pipeline add aggregate bikes --service cars
    pipeline add projection car_days --of cars
    pipeline add replica known_rooms --of rooms --service cars
    pipeline add reaction cars_follow_rooms --of rooms --to cars
    pipeline add saga trip --over rooms --over cars      # both, or neither

    The project is found by its pipeline.toml, here or in a directory above. What is there already is refused. If the
    project does not load with what was added, nothing is written. Exit code 1: a service's file cannot be edited
    safely; the line to add is printed.
    """


@command.command(short_help="An aggregate and a table, in a file of its own.")
@name_argument
def service(name: str) -> None:
    """Add a service NAME: an aggregate and a table.

    It gets a file of its own. The aggregate can be reserved, and released again; the table counts how often.
    """
    from pipeline.scaffold.kinds import add_service

    _add(lambda adding: add_service(adding, name))


@command.command(short_help="Commands, events, state, decide and evolve.")
@name_argument
@service_option("one of its own, in a file of its own")
def aggregate(name: str, service: str | None) -> None:
    """Add an aggregate NAME.

    Its commands, events, state, decide and evolve: it can be reserved, and released again.
    """
    from pipeline.scaffold.kinds import add_aggregate

    _add(lambda adding: add_aggregate(adding, name, service))


@command.command(short_help="A table that is folded from an aggregate's events.")
@name_argument
@of_option
@service_option("the aggregate's own; one that does not exist is made")
def projection(name: str, of: str | None, service: str | None) -> None:
    """Add a projection NAME.

    A table that is folded from an aggregate's events.
    """
    from pipeline.scaffold.kinds import add_table

    _add(lambda adding: add_table(adding, "projection", name, service, of))


@command.command(short_help="A service's own copy of another's data.")
@name_argument
@of_option
@service_option("the only other one; one that does not exist is made")
def replica(name: str, of: str | None, service: str | None) -> None:
    """Add a replica NAME.

    A service's own copy of what it needs of another's aggregate.
    """
    from pipeline.scaffold.kinds import add_table

    _add(lambda adding: add_table(adding, "replica", name, service, of))


@command.command(short_help="Another service's event becomes a command.")
@name_argument
@of_option
@click.option(
    "--to", type=FULL_TEXT, metavar="AGGREGATE", help="What it commands.  [default: the service's only aggregate]"
)
@service_option("that of --to, or the only other one")
def reaction(name: str, of: str | None, to: str | None, service: str | None) -> None:
    """Add a reaction NAME.

    Another service's event becomes a command for an aggregate of this one.
    """
    from pipeline.scaffold.kinds import add_reaction

    _add(lambda adding: add_reaction(adding, name, service, of, to))


@command.command(short_help="Two aggregates are reserved, both or neither.")
@name_argument
@click.option(
    "--over",
    multiple=True,
    type=FULL_TEXT,
    metavar="AGGREGATE",
    help="What it reserves; give two.  [default: the two that there are]",
)
def saga(name: str, over: tuple[str, ...]) -> None:
    """Add a saga NAME over two aggregates.

    It gets a file of its own, and reserves both of them, or neither.
    """
    from pipeline.scaffold.sagas import add_saga

    _add(lambda adding: add_saga(adding, name, over))


def _add(what: Callable[[Adding], Added]) -> None:
    from pipeline.scaffold.adding import Adding
    from pipeline.scaffold.editing import NotEditable
    from pipeline.scaffold.project import Project

    defaults = click.get_current_context().find_object(Defaults)
    if defaults is None or "topology" not in defaults.values:
        raise ScaffoldError(
            f"there is no {FILE} with a topology in this directory or above; go into a project, or make one with: "
            "pipeline new NAME"
        )
    root = defaults.folder.resolve()
    schemas = Path(defaults.values.get("schemas", root / "schemas")).resolve()
    try:
        added = what(Adding(Project(root, defaults.values["topology"], schemas)))
    except NotEditable as error:
        say(f"error: {error}; nothing was written. Add to it by hand: {error.line}", err=True)
        sys.exit(1)
    for line in added.lines:
        say(line)
    say("next:")
    say(f"  make test    # or: pytest {added.test}")
    say("  make dev     # runs all services, with the topics that are new")

"""What to type next: commands that work as they are printed, in the folder that the demo was started in."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from pipeline.demo.shop import SHOP, topology_option
from pipeline.demo.telling.report import say, shown_path


class Next(NamedTuple):
    """A command and what it shows."""

    command: str
    shows: str


class Place(NamedTuple):
    """Where the demo ran. `ours`: what stands before a command so that it takes no defaults of the user's own.

    `given`: the options that it was given, without those of one run, such as --keep.
    """

    home: Path
    bootstrap: str | None
    ours: str
    given: str

    @property
    def options(self) -> str:
        """The options by which a command reads the demo's records and tables."""
        where = f"--bootstrap {self.bootstrap}" if self.bootstrap else f"--home {self.shown_home}"
        return where + topology_option()

    @property
    def shown_home(self) -> str:
        """The directory as one types it."""
        return shlex.quote(shown_path(self.home))

    @property
    def again(self) -> str:
        """The options by which another demo runs there."""
        return self.given + (" --fresh" if self.bootstrap else "")


def program() -> str:
    """Return how `pipeline` is typed here: its path, if the shell would not find it, or would find another one."""
    here = Path(sys.executable).parent / "pipeline"
    found = shutil.which("pipeline")
    if found and (not here.exists() or Path(found).resolve() == here.resolve()):
        return "pipeline"
    if here.exists():
        return shlex.quote(_short(here))
    return f"{shlex.quote(_short(Path(sys.executable)))} -m pipeline"


def _short(path: Path) -> str:
    """Return the path relative to the current directory if it is inside, without following its links."""
    here = Path(os.path.abspath(path))
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)


def after_keep(place: Place, result: Mapping[str, Any], number: str) -> list[Next]:
    """Return what to type while the demo's services run. `number`: an order to follow; empty if there is none."""
    pipeline, key = place.ours + program(), shlex.quote(_product(result))
    return [
        Next(f"{pipeline} query inventory {key} {place.options}", "a product's stock, from the service that owns it"),
        Next(
            f"{pipeline} send inventory {key} ReceiveStock '{{\"quantity\": 12}}' {place.options}",
            "a command, and what was decided; then query it again",
        ),
        _followed(place, number),
    ]


def after_end(place: Place, number: str, *, explained: bool) -> list[Next]:
    """Return what to type once the demo's services have ended. `number`: as above."""
    pipeline, topology = program(), SHOP if topology_option() else "topologies"
    steps = (
        []
        if explained
        else [Next(f"{pipeline} demo --explain{place.again}", "the same, and an order record by record")]
    )
    if place.bootstrap:  # its records are still there
        steps = [_followed(place, number)]
    return [
        *steps,
        Next(f"{pipeline} demo --keep{place.again}", "leaves it all running, for queries and commands of your own"),
        Next(f"{pipeline} new my-shop", "a project of your own: a service, its tests, a demo"),
        Next(f"{place.ours}{pipeline} docs graph {topology}", "a picture of the services, in Mermaid"),
    ][:3]


def _followed(place: Place, number: str) -> Next:
    pipeline = place.ours + program()
    if not number:
        return Next(f"{pipeline} query customers {place.options}", "the customers, as reports shows them")
    shows = "an order through all services, record by record"
    return Next(f"{pipeline} explain orders {shlex.quote(number)} {place.options}", shows)


def _product(result: Mapping[str, Any]) -> str:
    """Return the code of a product that sells well, and that no shell or option parser misreads."""
    units, stock = result["units_sold"], result["stock"]
    codes = sorted(stock, key=lambda code: (-units.get(code, 0), code))
    return next((code for code in codes if code.isascii() and code.isalnum()), "85048")


def show_next(console: Console, steps: list[Next], place: Place, *, kept: bool) -> None:
    """Print the commands, each on a line of its own, however long, so that it can be copied."""
    console.print()
    say(console, "Type next:", "bold")
    for step in steps:
        say(console, f"    {step.command}")
        say(console, f"        {step.shows}", "dim")
    if kept:
        say(console, "It goes on running. To end it:", "bold")
        say(console, f"    {program()} demo --stop --home {place.shown_home}")

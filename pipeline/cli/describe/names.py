"""The names of a topology, for the shell to complete."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from pipeline.cli.defaults import find_defaults
from pipeline.cli.values import FULL_TEXT, FullText
from pipeline.topology import Topology, load

DEFAULT = "topologies"


class Name(FullText):
    """The name of something in the topology, which a shell can complete. `kind`: see `names_of`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in names_of(self.kind, ctx) if name.startswith(incomplete)]


NAMES = {  # of parameters, and what they name
    name: Name(name.removesuffix("s"))
    for name in ("service", "services", "aggregate", "saga", "table", "topic", "topics")
}


def completed(command: click.Command) -> click.Command:
    """Have the parameters of a command, and of those below it, complete the names that they take. Return it."""
    for param in command.params:
        if param.name in NAMES and param.type is FULL_TEXT:
            param.type = NAMES[param.name]
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        completed(inner)
    return command


def names_of(kind: str, ctx: click.Context) -> Collection[str]:
    """Return the names of a kind in the topology that a command line means; none if it cannot be loaded."""
    with suppress(Exception):  # the shell shows what stands on stderr in the middle of the line
        topology = _topology(ctx)
        owned = [each.name for service in topology.services.values() for each in service.owned]
        rows = [each.name for service in topology.services.values() for each in service.projections]
        copies = [each.name for service in topology.services.values() for each in service.replicas]
        match kind:
            case "service":
                return sorted(topology.services)
            case "aggregate":
                return sorted(owned)
            case "saga":
                return sorted(topology.sagas)
            case "table":
                return sorted([*owned, *rows, *copies])
            case "topic":
                return sorted({*_topics(topology), *owned, *rows, *topology.services})
    return ()


def _topology(ctx: click.Context) -> Topology:
    """Load the topology that the options, the environment or the file of defaults name, in this order."""
    defaults = find_defaults()
    given = ctx.params.get("topology")
    source = ctx.get_parameter_source("topology")
    if given and source in (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT):
        return load(given)
    if defaults is not None and "topology" in defaults.values:
        return load(defaults.values["topology"], roots=(defaults.folder,))
    return load(given or DEFAULT)


def _topics(topology: Topology) -> list[str]:
    from pipeline.tail.topics import meant

    return [topic for topics in meant(topology).values() for topic in topics]

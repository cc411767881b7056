"""Options that several commands share, and their defaults."""

from __future__ import annotations

import getpass
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pipeline.broker import local
from pipeline.cli.defaults import Defaults
from pipeline.cli.values import Bootstrap, FilePath, TopologyName
from pipeline.errors import BrokerUnreachable, TopologyError

if TYPE_CHECKING:
    from pipeline.client.queries import QueryClient
    from pipeline.topology import Topology

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
ENVIRONMENT, DEFAULT_MAP = ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP
UNNAMED = "taken as nothing names yours: name it with --topology, PIPELINE_TOPOLOGY or in pipeline.toml"
HOME = Path(".pipeline")
HOME_HELP = "Directory of the local broker and of the workers' tables."

home_option = click.option(
    "--home",
    type=FilePath(file_okay=False, path_type=Path),
    default=HOME,
    envvar="PIPELINE_HOME",
    help=HOME_HELP,
    show_default=True,
    show_envvar=True,
)
bootstrap_option = click.option(
    "--bootstrap",
    type=Bootstrap(),
    envvar="PIPELINE_BOOTSTRAP",
    metavar="HOST:PORT",
    help="Kafka to use, if not the local broker of --home.",
    show_envvar=True,
)
topology_option = click.option(
    "--topology",
    default="topologies",
    envvar="PIPELINE_TOPOLOGY",
    show_default=True,
    show_envvar=True,
    help="The topology that the workers run.",
)
topology_argument = click.argument("topology", type=TopologyName(), envvar="PIPELINE_TOPOLOGY")
database_option: Decorator = click.option(
    "--database",
    "databases",
    multiple=True,
    envvar="PIPELINE_DATABASE",
    metavar="SERVICE=URL",
    help="The database of a service's SQL tables, postgresql://user@host/name or sqlite:///path; repeatable. "
    "[default: a SQLite file under --home]",
)
_log_level: Decorator = click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    default="INFO",
    envvar="PIPELINE_LOG_LEVEL",
    show_default=True,
    help="The least level that is logged. A warning wants a look, an error wants somebody to do something.",
)
_log_format: Decorator = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    envvar="PIPELINE_LOG_FORMAT",
    show_default=True,
    help="Log lines for people, or one JSON object a line.",
)
trace_option: Decorator = click.option(
    "--trace/--no-trace",
    "trace",
    default=None,
    help="Export spans, to where the variables OTEL_* say; needs the extra tracing.  [default: if they say where]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for machines.")
schemas_option = click.option(
    "--schemas",
    type=FilePath(path_type=Path),
    envvar="PIPELINE_SCHEMAS",
    help="Directory of the .avsc files, if not schemas/ beside the topology.",
    show_envvar=True,
)


@dataclass(frozen=True)
class Where:
    """A topology, and the cluster that it runs on, as the command line names them."""

    name: str  # of the topology
    schemas: Path | None
    bootstrap: str | None
    home: Path
    roots: Sequence[Path] = ()  # where the topology is looked for; see `load`
    source: str = ""  # what an error says of how the topology is named; "" if the command line names it

    @property
    def address(self) -> str:
        """The given address, or that of the local broker of `home`. Raises BrokerUnreachable."""
        if self.bootstrap:
            return self.bootstrap
        running = local.find(self.home / "broker")
        if running is None:
            raise BrokerUnreachable(
                f"no local broker runs in {self.home}; start one with: {start_broker(self.home)}, or name another with "
                "--bootstrap"
            )
        return running.bootstrap

    @cached_property
    def topology(self) -> Topology:
        """The topology. Raises TopologyError."""
        from pipeline.topology import load

        try:
            return load(self.name, self.schemas, self.roots)
        except TopologyError as error:
            if not self.source:
                raise
            raise TopologyError(f"{error} ({self.source})") from error

    def queries(self, **options: Any) -> QueryClient:
        """Return a client for reads; `options` are those of QueryClient."""
        from pipeline.client.queries import QueryClient

        return QueryClient(self.address, self.topology, **options)


def named(topology: str, schemas: Path | None, bootstrap: str | None = None, home: Path = HOME) -> Where:
    """Return what the parameters of the current command name.

    A topology is looked for where it was named: beside the file, if that did. The file's schemas are those of its own
    topology, so they are left out if another is named.
    """
    ctx = click.get_current_context()
    defaults, by = ctx.find_object(Defaults), ctx.get_parameter_source("topology")
    source = "PIPELINE_TOPOLOGY names it" if by is ENVIRONMENT else UNNAMED if by is ParameterSource.DEFAULT else ""
    if defaults is None:
        return Where(topology, schemas, bootstrap, home, source=source)
    if ctx.get_parameter_source("schemas") is DEFAULT_MAP and defaults.values.get("topology", topology) != topology:
        schemas = None
    if by is DEFAULT_MAP:
        return Where(topology, schemas, bootstrap, home, (defaults.folder,), f"{defaults.path} names it")
    return Where(topology, schemas, bootstrap, home, (Path.cwd(), defaults.folder), source)


def where(*options: Decorator) -> Decorator:
    """Add `options`, and those that name a cluster; pass what they and the argument `topology` name as `where`."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(
            *args: Any, topology: str, bootstrap: str | None, home: Path, schemas: Path | None, **others: Any
        ) -> None:
            function(*args, where=named(topology, schemas, bootstrap, home), **others)

        decorated: Callable[..., None] = schemas_option(home_option(bootstrap_option(run)))
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def log_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what is logged, and how."""
    return _log_level(_log_format(function))


def start_broker(home: Path) -> str:
    """Return the command that starts the local broker of `home`."""
    return "pipeline broker up" + ("" if home == HOME else f" --home {shlex.quote(str(home))}")


def user() -> str:
    """Return the name of the user of this process; in a container there may be a number only."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}"


def given(ctx: click.Context) -> dict[str, str]:
    """Return the options and arguments that were given on the command line, each with how it is written."""
    named = {param.name: param for param in ctx.command.params}
    return {
        name: named[name].opts[0] if isinstance(named[name], click.Option) else str(named[name].human_readable_name)
        for name in ctx.params
        if name in named and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def refuse_with(ctx: click.Context, option: str, *others: str, why: str) -> None:
    """Refuse those of the `others` that were given beside `option`, instead of ignoring them.

    `others`: names of parameters. Raises UsageError.
    """
    told = given(ctx)
    if found := [told[name] for name in others if name in told]:
        raise click.UsageError(f"{' and '.join(found)} and {option} do not go together: {why}")

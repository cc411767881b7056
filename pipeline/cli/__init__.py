"""The command line: `pipeline …`. Each command has a module of its own, imported when it is called."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pipeline.adapters import descriptors
from pipeline.adapters.client_config import VARIABLE
from pipeline.adapters.schema_registry import VARIABLE as REGISTRY
from pipeline.cli.defaults import FILE, OF_DEFAULTS, ORDER, Defaults, find_defaults
from pipeline.cli.defaults import VARIABLE as CONFIG
from pipeline.cli.describe.names import completed
from pipeline.cli.shown import say
from pipeline.cli.streams import cure_of, open_streams, output_error
from pipeline.cli.values import FilePath, RegistryUrl, strict
from pipeline.client.wire.access import VARIABLE as TOKEN
from pipeline.client.wire.plain import plain
from pipeline.errors import DefaultsError, LaneFatal, PipelineError
from pipeline.process import Ended
from pipeline.process.signals import ENDING

COMMANDS = {
    "new": "Make a project: a service with its tests, a demo, all that it needs to run.",
    "add": "Add a service, an aggregate, a saga … with its test to the project here.",
    "dev": "Run a topology while you write it: a local Kafka, all services, HTTP; reloads at each save.",
    "shell": "Open Python with a topology, its services and connected clients at hand.",
    "broker": "Start, find and stop a local Kafka; needs no Docker and no Java.",
    "topics": "Create and check the topics of a topology.",
    "schemas": "Check the Avro schemas, and give new versions their ids.",
    "docs": "Describe a topology: a picture of how data flows, an AsyncAPI document.",
    "worker": "Run the services of a topology until stopped.",
    "token": "Make, list and revoke the access tokens that workers ask for.",
    "send": "Send commands, and show their outcomes.",
    "query": "Read rows of a materialised table.",
    "history": "Show an aggregate's events, its state at a version or time, and differences.",
    "tail": "Show records of topics, decoded: the last ones, since a time, as they come.",
    "explain": "Follow one request through all services, record by record.",
    "trace": "Follow one command by its id, or a request by its correlation id, to its last row.",
    "deadlines": "Show an aggregate's deadlines and scheduled commands.",
    "saga": "List sagas, show one, and retry, skip a step or undo all.",
    "2pc": "List two-phase commits, show one and what it blocks, and force its outcome.",
    "projection": "Build a projection's next version beside the old one, switch readers, drop the old.",
    "state": "Build the states of an aggregate's new revision ahead.",
    "lag": "Show how far services are behind, in records and in time, and what they wait for.",
    "doctor": "Check machine, broker, topics, schemas, clocks and rights: each is well, or has a cure.",
    "groups": "Show who folds what: workers, partitions, offsets, and open transactions.",
    "parked": "List, show, redrive and discard the records that could not be folded.",
    "pause": "Have a service decide no commands, whatever is restarted.",
    "resume": "Have a service go on that is paused, or held as too much raised.",
    "reset": "Set the offsets that the broker has lost to where the tables stand.",
    "verify": "Prove from the logs and the tables that every record had its effect once.",
    "replay-check": "Say what changed code would make otherwise of what is recorded, from a file or a broker.",
    "export": "Write records of topics, with their schemas, to an Avro file.",
    "import": "Take records of such a file into a topic of another cluster.",
    "completion": "Print what has a shell complete commands, options and names.",
    "backup": "Back up event logs with all that belongs to them, and the tables of workers.",
    "restore": "Restore them: logs into an empty cluster, tables for a new worker.",
    "config": f"Show the defaults that {FILE} and the environment give, and which says what.",
    "demo": "Run a real shop's data through the pipeline and check every figure.",
}
MODULES = {  # modules named otherwise than the command, or in a folder
    "2pc": "operate.two_phase",
    "add": "project.add",
    "backup": "backups.backup",
    "completion": "describe.completion",
    "deadlines": "operate.deadlines",
    "dev": "project.dev",
    "docs": "describe.docs",
    "doctor": "observe.doctor",
    "explain": "data.explain",
    "export": "data.export_file",
    "groups": "observe.groups",
    "history": "data.history",
    "import": "data.import_file",
    "lag": "operate.lag",
    "new": "project.new",
    "parked": "operate.parked",
    "pause": "operate.pause",
    "projection": "operate.projection",
    "query": "data.query",
    "replay-check": "operate.replay_check",
    "reset": "operate.reset",
    "resume": "operate.resume",
    "restore": "backups.restore",
    "saga": "operate.saga",
    "send": "data.send",
    "shell": "project.shell",
    "state": "operate.state",
    "tail": "data.tail",
    "token": "deploy.token",
    "trace": "data.trace",
}


HELP = "pipeline.help"  # whether the help of a command is asked for


def _finished(command: click.Command) -> click.Command:
    """Have each command that takes defaults say in its help where they come from. Return the command."""
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _finished(inner)
    if any(param.envvar in OF_DEFAULTS for param in command.params):
        command.epilog = ORDER
    return completed(strict(command))


class LazyGroup(click.Group):
    """Imports `pipeline.cli.<command>` only when that command is called, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return _finished(importlib.import_module(f"pipeline.cli.{MODULES.get(cmd_name, cmd_name)}").command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        ctx.meta[HELP] = not set(ctx.help_option_names).isdisjoint(ctx.args)
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = plain(error.message, keep="\n")
            raise
        except PipelineError as error:
            _say_failed(str(error))
            sys.exit(1 if isinstance(error, LaneFatal) else 2)  # 1: restarting the worker may help
        except OSError as error:
            if not (cure := descriptors.cure() if descriptors.exhausted(error) else cure_of(error)):
                raise
            what = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
            _say_failed(f"{what}; {cure}")
            sys.exit(2)


def _logs_for_machines() -> bool:
    """Whether this process writes its log as JSON, so that all that it says on stderr is JSON."""
    return any(getattr(handler.formatter, "for_machines", False) for handler in logging.getLogger().handlers)


def _say_failed(text: str) -> None:
    """Say what has ended the command."""
    if _logs_for_machines():
        logging.getLogger(__name__).error("%s", text, extra={"event": "failed"})
    else:
        say(f"error: {text}", err=True)


def run() -> None:
    """Run the command, and end the process at once with its exit code: the entry point of `pipeline`.

    Does not wait for native clients to stop: one that has lost its broker may never do so.
    """
    code: Any = 1
    open_streams()
    descriptors.raise_limit()  # many systems allow 256 or 1,024 open files unless a process asks for more
    try:
        main(prog_name="pipeline")
    except SystemExit as ended:
        code = ended.code
    except Ended as ended:
        code = ended.exit_code
        with suppress(OSError, ValueError):
            click.echo(ended, err=True)
    except BaseException as error:
        with suppress(OSError, ValueError):
            if isinstance(error, OSError) and (failed := output_error()):
                say(f"error: standard output cannot be written: {failed.strerror}", err=True)
            elif _logs_for_machines():
                logging.getLogger(__name__).exception("a bug has ended it", extra={"event": "failed"})
            else:
                traceback.print_exc()
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)  # the process is ending
    with suppress(Exception):
        logging.shutdown()  # says which lines were left out
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a closed pipe or terminal
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="kafka-pipeline")
@click.option(
    "--client-config",
    type=FilePath(exists=True, dir_okay=False),
    envvar=VARIABLE,
    metavar="FILE",
    help="How to connect to the cluster: lines such as sasl.username=orders, as librdkafka names them.",
)
@click.option(
    "--registry",
    type=RegistryUrl(),
    envvar=REGISTRY,
    metavar="URL",
    help="A schema registry with Confluent's interface: records have its ids then, and other programs can read them.",
)
@click.option(
    "--config",
    type=FilePath(exists=True, dir_okay=False, path_type=Path),
    envvar=CONFIG,
    metavar="FILE",
    help=f"Where defaults of options are.  [default: {FILE} in this directory or above, or a table [tool.pipeline] in "
    "pyproject.toml]",
)
@click.pass_context
def main(ctx: click.Context, client_config: str | None, registry: str | None, config: Path | None) -> None:
    """Data management in services over Apache Kafka: commands in, event logs, tables and projections out.

    \b
    Try it:      pipeline demo
    Your own:    pipeline new shop
    By hand:     pipeline broker up
                 pipeline topics create topologies
                 pipeline worker topologies
                 pipeline send inventory 85048 RegisterProduct '{"description": "a lamp"}'
                 pipeline query inventory 85048
                 pipeline history inventory 85048
    """
    if defaults := _defaults(ctx, config):
        client_config = client_config or defaults.values.get("client_config")
        registry = registry or defaults.values.get("registry")
        if defaults.token:
            os.environ.setdefault(TOKEN, defaults.token)
    for variable, value in ((VARIABLE, client_config), (REGISTRY, registry)):
        if value is not None:
            os.environ[variable] = value  # also for processes that a command starts


def _defaults(ctx: click.Context, named: Path | None) -> Defaults | None:
    """Find the defaults, and have the command that is called take them. The demo has a world of its own."""
    name = ctx.invoked_subcommand
    if name == "demo" and ctx.get_parameter_source("config") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--config and demo do not go together: the demo has its own topology, Kafka and home")
    if name is None or name == "demo" or (command := main.get_command(ctx, name)) is None:
        return None
    try:
        ctx.obj = found = find_defaults(named)
    except (DefaultsError, OSError):
        if not ctx.meta[HELP]:
            raise
        return None
    ctx.default_map = {name: found.of(command)} if found else None
    return found

"""The topology and cluster that a program means which is no command: found as the command line finds them."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pipeline.adapters import client_config, schema_registry
from pipeline.cli.defaults import VARIABLE, Defaults, find_defaults
from pipeline.cli.options import Where, bootstrap_option, home_option, named, schemas_option, topology_option
from pipeline.client.wire.access import VARIABLE as TOKEN
from pipeline.errors import DefaultsError

INHERITED = {"client_config": client_config.VARIABLE, "registry": schema_registry.VARIABLE}
Given = str | Path | None


@click.command()
@topology_option
@schemas_option
@bootstrap_option
@home_option
def _command(topology: str, schemas: Path | None, bootstrap: str | None, home: Path) -> Where:
    return named(topology, schemas, bootstrap, home)


def find_cluster(
    topology: Given = None, bootstrap: Given = None, *, schemas: Given = None, home: Given = None, config: Given = None
) -> Where:
    """Return what the command line means here: the `topology`, and the `address` of its Kafka, for clients.

    What the arguments leave out, the environment or pipeline.toml says, as for a command's options; else it is the
    local broker of `home`, and `address` raises BrokerUnreachable if that does not run. `config`: the file, instead of
    the nearest pipeline.toml. Sets PIPELINE_CLIENT_CONFIG, PIPELINE_REGISTRY and PIPELINE_TOKEN if the file names
    them and the environment does not. Raises DefaultsError.
    """
    given = {"topology": topology, "bootstrap": bootstrap, "schemas": schemas, "home": home}
    defaults = _defaults(config or os.environ.get(VARIABLE))
    for name, variable in INHERITED.items():
        if defaults and name in defaults.values:
            os.environ.setdefault(variable, defaults.values[name])
    if defaults and defaults.token:
        os.environ.setdefault(TOKEN, defaults.token)
    arguments = [f"--{name}={value}" for name, value in given.items() if value is not None]
    try:
        found: Where = _command.main(
            arguments, "pipeline", standalone_mode=False, obj=defaults, default_map=defaults and defaults.of(_command)
        )
    except click.UsageError as error:
        raise DefaultsError(error.format_message()) from None
    return found


def _defaults(config: Given) -> Defaults | None:
    try:
        return find_defaults(Path(config) if config else None)
    except OSError as error:
        raise DefaultsError(f"{error.filename}: {error.strerror}; name another file, or none") from None

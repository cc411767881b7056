"""`pipeline config`: which topology and cluster the commands use here, and what says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pipeline.broker import local
from pipeline.cli.defaults import FILE, Defaults
from pipeline.cli.options import bootstrap_option, home_option, json_option, schemas_option, topology_option
from pipeline.cli.shown import say, say_json, say_rows
from pipeline.client.wire.access import VARIABLE

SOURCES = {
    ParameterSource.COMMANDLINE: "option",
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "file",
}


@click.command()
@topology_option
@schemas_option
@bootstrap_option
@home_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, **values: Any) -> None:
    """Show the topology, schemas, Kafka and home that the commands use here, and where each is from.

    With --json the value of bootstrap is null if it is the local broker of --home and that does not run.

    \b
    topology = "shop"          # a package, a module, a path
    schemas = "schemas"        # paths are relative to the file
    bootstrap = "kafka:9092"
    home = ".pipeline"
    client-config = "client.properties"
    registry = "http://localhost:8081"
    token = "$ORDERS_TOKEN"    # of the environment; or "@FILE"
    """
    defaults = ctx.find_object(Defaults)
    rows = [_row(ctx, name, values[name], defaults) for name in ("topology", "schemas", "bootstrap", "home")]
    assert ctx.parent is not None
    rows += [_row(ctx.parent, name, ctx.parent.params[name], defaults) for name in ("client_config", "registry")]
    rows.append(_token(defaults))
    running = local.find(values["home"] / "broker")
    if as_json:
        for row in rows:
            if row["setting"] == "bootstrap" and row["value"] is None and running:
                row["value"] = running.bootstrap
            say_json(row)
        return
    instead = {
        "schemas": "schemas/ beside the topology",
        "bootstrap": _own_broker(values["home"], running),
        "client-config": "none",
        "registry": "none",
        "token": "none",
    }
    for row in rows:
        row["value"] = instead[row["setting"]] if row["value"] is None else row["value"]
        row["from"] = row.pop("at") or row["source"]
        del row["source"]
    say_rows(rows)
    if defaults is None:
        say(f"There is no {FILE} in this directory or above.")


def _row(ctx: click.Context, name: str, value: Any, defaults: Defaults | None) -> dict[str, Any]:
    param = next(param for param in ctx.command.params if param.name == name)
    source = SOURCES.get(ctx.get_parameter_source(name) or ParameterSource.DEFAULT, "default")
    if value is None and defaults and name in defaults.values:
        value, source = defaults.values[name], "file"  # an option of `pipeline` itself
    places = {"option": param.opts[0], "environment": param.envvar, "file": str(defaults and defaults.path)}
    shown = None if value is None else str(value)
    return {"setting": name.replace("_", "-"), "value": shown, "source": source, "at": places.get(source)}


def _token(defaults: Defaults | None) -> dict[str, Any]:
    """Return the row of the access token, which is not shown."""
    token, told = os.environ.get(VARIABLE), defaults.values.get("token") if defaults else None
    if told and defaults and token in (None, "", defaults.token):
        return {"setting": "token", "value": told, "source": "file", "at": str(defaults.path)}
    if token:
        return {"setting": "token", "value": "(not shown)", "source": "environment", "at": VARIABLE}
    return {"setting": "token", "value": None, "source": "default", "at": None}


def _own_broker(home: Path, running: local.Running | None) -> str:
    return f"{running.bootstrap}, the local broker of {home}" if running else f"the local broker of {home}, not running"

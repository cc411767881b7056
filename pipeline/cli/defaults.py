"""`pipeline.toml`: what a project's commands take if neither an option nor the environment says it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pipeline.cli.values import FULL_TEXT, Bootstrap, FilePath, RegistryUrl, TokenReference
from pipeline.errors import DefaultsError
from pipeline.topology import is_path

FILE, SHARED, TABLE = "pipeline.toml", "pyproject.toml", "tool.pipeline"
VARIABLE = "PIPELINE_CONFIG"
KINDS: dict[str, click.ParamType] = {  # keys are called as the options are
    "topology": FULL_TEXT,
    "schemas": FilePath(),
    "bootstrap": Bootstrap(),
    "home": FilePath(file_okay=False),
    "client-config": FilePath(exists=True, dir_okay=False),
    "registry": RegistryUrl(),
    "token": TokenReference(),
}
OF_DEFAULTS = {f"PIPELINE_{name.upper()}" for name in KINDS}  # the variables of the commands' own options
ORDER = (
    "What neither TOPOLOGY nor the options --topology, --schemas, --bootstrap and --home say is taken from "
    f"PIPELINE_TOPOLOGY and so on, then from {FILE} in this directory or above; pipeline config shows it."
)


@dataclass(frozen=True)
class Defaults:
    """The values of a file by the names of the parameters. Paths are absolute, or relative to the current directory."""

    path: Path
    values: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """The directory that the file's paths and modules are in."""
        return self.path.parent

    def of(self, command: click.Command) -> dict[str, Any]:
        """Return the `default_map` of a command, and of those below it."""
        if isinstance(command, click.Group):
            return {name: self.of(inner) for name, inner in command.commands.items()}
        return dict(self.values)

    @property
    def token(self) -> str | None:
        """The access token that the file refers to, or `@` and its file; None if it names none, or that is not set."""
        told = self.values.get("token", "")
        return os.environ.get(told[1:]) if told.startswith("$") else told or None


def find_defaults(named: Path | None = None) -> Defaults | None:
    """Return the defaults of the file `named`, or of the nearest one in the current directory and those above.

    Raises DefaultsError if that cannot be used, and OSError if it cannot be read.
    """
    if named is not None:
        return _read(named.absolute()) or Defaults(named.absolute(), {})
    here = _here()
    for folder in (here, *here.parents) if here else ():
        for path in (folder / FILE, folder / SHARED):
            if os.path.isfile(path) and (found := _read(path)):  # unlike Path.is_file, raises nothing
                return found
    return None


def _here() -> Path | None:
    """Return the current directory; None if it has been deleted."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _read(path: Path) -> Defaults | None:
    """Return None for a pyproject.toml without a table of ours."""
    shared = path.name == SHARED
    data = b""
    try:
        data = path.read_bytes()
        if shared and b"pipeline" not in data:
            return None
        table: Any = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if shared and TABLE.encode() not in data:
            return None  # another tool's matter
        raise DefaultsError(f"{path} is not TOML: {error}; correct it") from None
    except OSError:
        if shared:
            return None
        raise
    if shared:
        for name in TABLE.split("."):
            table = table.get(name) if isinstance(table, dict) else None
        if table is None:
            return None
    if not isinstance(table, dict):
        raise DefaultsError(f"{path}: {TABLE} is not a table; write [{TABLE}], and its keys below")
    return Defaults(path, {name.replace("-", "_"): _value(path, name, value) for name, value in table.items()})


def _value(path: Path, name: str, value: Any) -> str:
    """Return a value as its option takes it. Raises DefaultsError."""
    if name not in KINDS:
        raise DefaultsError(f"{path}: there is no key {name!r:.100}; use {', '.join(KINDS)}, or remove it")
    if not isinstance(value, str):
        raise DefaultsError(f'{path}: {name} is not text; write it in quotes, as {name} = "…"')
    if value and (isinstance(KINDS[name], FilePath) or (name == "topology" and is_path(value))):
        value = os.path.expanduser(value)
        if path.parent != _here():
            value = os.path.join(path.parent, value)
    try:
        told = str(KINDS[name].convert(value, None, None))
    except click.BadParameter as error:
        raise DefaultsError(f"{path}: {name}: {error.message}") from None
    if name == "token" and told.startswith("@"):
        return f"@{path.parent / os.path.expanduser(told[1:])}"
    return told

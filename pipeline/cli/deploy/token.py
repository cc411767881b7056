"""`pipeline token`: the access tokens that workers ask for."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import Decorator, json_option
from pipeline.cli.shown import say, say_json, say_rows
from pipeline.cli.values import FilePath

file_option: Decorator = click.option(
    "--file",
    type=FilePath(dir_okay=False, path_type=Path),
    envvar="PIPELINE_TOKEN_FILE",
    required=True,
    show_envvar=True,
    help="The file of names and hashes, which a worker's --token-file names, too.",
)


@click.group()
def command() -> None:
    """Access tokens: who may call workers that other machines can reach.

    The file keeps a name and a hash of each token, never the token, and workers take in a change of it within a second.
    To rotate: make a token of another name, give it to the callers, and revoke the old one.
    """


@command.command()
@click.argument("name")
@file_option
@json_option
def new(name: str, file: Path, as_json: bool) -> None:
    """Make a token called NAME, and print it: once, as only its hash is kept.

    \b
    pipeline token new orders-web --file tokens
    export PIPELINE_TOKEN=$(pipeline token new laptop --file tokens)
    """
    from pipeline.server.access.tokens import add

    token = add(file, name)
    if as_json:
        say_json({"name": name, "token": token})
    else:
        click.echo(token)
        say(
            f"This is shown once; {file} keeps its hash. Callers send it: PIPELINE_TOKEN, or token= of the clients.",
            err=True,
        )


@command.command(name="list")
@file_option
@json_option
def list_(file: Path, as_json: bool) -> None:
    """List the tokens of the file: their names, and when they were made."""
    from pipeline.server.access.tokens import read

    rows = [{"name": entry.name, "made": entry.made or None} for entry in read(file)]
    if as_json:
        for row in rows:
            say_json(row)
    elif rows:
        say_rows(rows)
    else:
        say(f"no tokens in {file}")


@command.command()
@click.argument("name")
@file_option
def revoke(name: str, file: Path) -> None:
    """Take the token called NAME out of the file; workers refuse it a second later."""
    from pipeline.server.access.tokens import revoke as take_out

    take_out(file, name)
    say(f"revoked {name}; workers refuse it within a second")

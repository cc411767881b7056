"""`pipeline shell`: Python with a topology and its clients at hand."""

from __future__ import annotations

import ast
import code
import os
import sys
import traceback
from typing import Any

import click

from pipeline.cli.options import Where, topology_argument, where
from pipeline.cli.shown import say
from pipeline.errors import PipelineError

NAME = "<command>"


@click.command()
@topology_argument
@click.option(
    "--command",
    "-c",
    "text",
    metavar="CODE",
    help="Run this code instead, show the value of its last expression, and end.",
)
@where()
def command(text: str | None, where: Where) -> None:
    """Open Python with TOPOLOGY, its services' parts by name, and `client` and `query` connected.

    It is IPython if that is installed. Without a terminal the code comes from standard input, or from --command.

    \b
    pipeline shell
    pipeline shell -c 'query.get(users, "anna").row'
    """
    from pipeline.client import Client
    from pipeline.develop.namespace import STANDARD, banner, parts

    topology, address = where.topology, where.address
    found = parts(topology)
    with Client(address, topology, "shell") as client, where.queries() as query:
        names = {"__name__": "__shell__", **STANDARD, "topology": topology, "client": client, "query": query}
        names |= {part.name: part.value for part in found}
        if text is not None or not sys.stdin.isatty():
            _run(sys.stdin.read() if text is None else text, names)
        else:
            _open(banner(topology, found, address), names)


def _open(banner: str, names: dict[str, Any]) -> None:
    """Let a person type, until Ctrl-D."""
    try:
        from IPython import start_ipython
        from traitlets.config import Config
    except ImportError:
        say("IPython is not installed, this is Python's own shell: pip install 'kafka-pipeline[develop]'", err=True)
        code.interact(banner, local=names, exitmsg="")
        return
    config = Config()
    config.TerminalIPythonApp.display_banner = True
    config.TerminalInteractiveShell.banner1 = f"{banner}\n"
    config.TerminalInteractiveShell.banner2 = ""
    config.TerminalInteractiveShell.confirm_exit = False
    if "NO_COLOR" in os.environ:
        config.TerminalInteractiveShell.colors = "NoColor"
    start_ipython(argv=[], user_ns=names, config=config)


def _run(text: str, names: dict[str, Any]) -> None:
    """Run code, and show the value of its last expression unless that is None. Exit code 1 if it raises."""
    try:
        tree = ast.parse(text, NAME)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, NAME, "exec"), names)
        if isinstance(last, ast.Expr):
            sys.displayhook(eval(compile(ast.Expression(last.value), NAME, "eval"), names))
    except PipelineError:
        raise
    except Exception as error:
        own = error.__traceback__ and error.__traceback__.tb_next  # without the line above
        traceback.print_exception(type(error), error, own)
        sys.exit(1)

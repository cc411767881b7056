"""Makes the reference of the command line from the commands themselves: a MkDocs hook, so that the two cannot differ.

The page reference/commands.md says where: at its line MARK.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from pipeline.cli import main

PAGE = "reference/commands.md"
MARK = "<!-- the commands -->"
KEPT = "\b"  # click: the line breaks of the paragraph are meant
STATED = re.compile(r"\s*\[default: (.+)\]\s*$")  # in the help itself, if a value would not explain it
BAR = r"\|"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str | None:
    """Put the commands in place of the mark."""
    if page.file.src_uri != PAGE:
        return None
    return markdown.replace(MARK, "\n".join(reference()))


def reference() -> Iterator[str]:
    """The lines of the reference: `pipeline` itself, then each command with those below it."""
    context = click.Context(main, info_name="pipeline", show_default=True)
    yield from _section(context, 2)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        yield from _command(click.Context(command, info_name=name, parent=context, show_default=True), 2)


def _command(context: click.Context, level: int) -> Iterator[str]:
    yield from _section(context, level)
    command = context.command
    for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
        yield from _command(click.Context(inner, info_name=name, parent=context, show_default=True), level + 1)


def _section(context: click.Context, level: int) -> Iterator[str]:
    """A command: what it is called with, what it does, its arguments and options."""
    command = context.command
    yield f"{'#' * level} {context.command_path}\n"
    yield f"```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    for paragraph in re.split(r"\n\s*\n", command.help or ""):
        if paragraph.strip().startswith(KEPT):
            yield "```text\n" + paragraph.replace(KEPT, "").strip("\n") + "\n```\n"
        else:
            yield _escaped(" ".join(paragraph.split())) + "\n"
    rows = [_row(param, context) for param in command.params]
    if rows:
        yield "| | | default | variable |\n|---|---|---|---|"
        yield from rows
        yield ""


def _row(param: click.Parameter, context: click.Context) -> str:
    """The row of an argument or option in the table of its command."""
    variable = ", ".join(
        f"`{each}`" for each in ([param.envvar] if isinstance(param.envvar, str) else param.envvar or ())
    )
    if not isinstance(param, click.Option):
        needed = "" if param.required else "may be left out"
        return f"| `{param.make_metavar(context)}` | {needed} | | {variable} |"
    names = " / ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    value = "" if param.is_flag or param.count else f" `{param.make_metavar(context).replace('|', BAR)}`"
    extra, text = param.get_help_extra(context), param.help or ""
    default = extra.get("default", "required" if param.required else "")
    if stated := STATED.search(text):
        default, text = _escaped(stated[1]), STATED.sub("", text)
    elif default:
        default = f"`{default}`"
    if "range" in extra:
        text += f" {extra['range']}"
    repeats = " Repeatable." if param.multiple and "repeatable" not in text.lower() else ""
    return f"| {names}{value} | {_escaped(' '.join(text.split()))}{repeats} | {default} | {variable} |"


def _escaped(text: str) -> str:
    """Plain text as Markdown; what is in backticks stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\*_{}\[\]|])", r"\\\1", html.escape(part, quote=False))
        for part in parts
    )

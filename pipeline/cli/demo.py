"""`pipeline demo`: the whole pipeline on a real shop's data, in one command."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pipeline.adapters.client_config import VARIABLE
from pipeline.adapters.schema_registry import VARIABLE as REGISTRY
from pipeline.cli.defaults import VARIABLE as CONFIG
from pipeline.cli.defaults import find_defaults
from pipeline.cli.options import HOME, given, refuse_with
from pipeline.cli.shown import say_json
from pipeline.cli.values import FilePath
from pipeline.errors import DefaultsError, DemoFolderError
from pipeline.process import orderly_end

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}
CREDIT_MAX = Fraction(10**12)  # pounds
# Environment variables for the user's own cluster and workers. A demo on a Kafka of its own ignores them.
OF_ONES_OWN = (VARIABLE, REGISTRY, "PIPELINE_DATABASE", "PIPELINE_SECRET_FILE", "PIPELINE_ADVERTISE")
OF_ONE_RUN = {"json_file", "explains", "keep", "fresh"}  # options that another demo need not have


class Amount(click.ParamType):
    """An exact decimal number from 0 to `most`."""

    name = "number"

    def __init__(self, most: Fraction) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        """Parse the number; a usage error if it is not one in the range."""
        if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?|\.[0-9]{1,15}", str(value)) or Fraction(value) > self._most:
            self.fail(f"{value!r:.40} is not a number from 0 to {int(self._most):,}", param, ctx)
        return Fraction(value)


@click.command()
@click.option(
    "--input", "source", type=FilePath(path_type=Path), help="Invoice file, CSV or gzip.  [default: December 2009]"
)
@click.option(
    "--json",
    "json_file",
    type=FilePath(path_type=Path, allow_dash=True),
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Write the result as one JSON object to FILE, or to standard output; all else is then on standard error.",
)
@click.option(
    "--explain", "explains", is_flag=True, help="Also follow an order through all services, record by record."
)
@click.option(
    "--checkout",
    type=click.Choice(("saga", "2pc")),
    default="saga",
    show_default=True,
    help="How orders reserve stock and are paid: as a saga, or by a two-phase commit.",
)
@click.option(
    "--stock-ratio",
    type=Amount(Fraction(1)),
    default="1",
    show_default=True,
    help="The part of its sales in the file that each product has in stock, rounded down; 0 to 1.",
)
@click.option(
    "--credit-limit",
    type=Amount(CREDIT_MAX),
    metavar="POUNDS",
    help="How much each customer may owe.  [default: no limit]",
)
@click.option("--keep", is_flag=True, help="Leave broker and worker running afterwards, for queries.")
@click.option("--stop", "stop_kept", is_flag=True, help="Stop what --keep has left running.")
@click.option("--processes", type=click.IntRange(1, 16), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--feed-first",
    is_flag=True,
    help="Send everything before the worker starts: the rate is then only the worker's, from its first commit on.",
)
@click.option("--bootstrap", metavar="HOST:PORT", help="Kafka to use.  [default: a local one, started for the demo]")
@click.option("--fresh", is_flag=True, help="With --bootstrap: first delete the shop's topics and all they hold.")
@click.option(
    "--home",
    type=FilePath(file_okay=False, path_type=Path),
    default=HOME / "demo",
    show_default=True,
    help="Directory for the demo's broker and tables: a new or empty one, or an earlier demo's, which is emptied.",
)
@click.pass_context
def command(
    ctx: click.Context,
    source: Path | None,
    json_file: Path | None,
    explains: bool,
    checkout: str,
    stock_ratio: Fraction,
    credit_limit: Fraction | None,
    keep: bool,
    stop_kept: bool,
    processes: int,
    feed_first: bool,
    bootstrap: str | None,
    fresh: bool,
    home: Path,
) -> None:
    """Run a real shop's invoices through the pipeline and check every figure against the file.

    Starts Kafka and a worker, sends the commands, waits until every table has caught up, reads the tables and compares
    them with sums made straight from the file. Then places an order for more than there is, and shows who refuses it
    and what is undone. Says at the end what to type next. Exit code 1 if any figure differs.
    """
    from pipeline.demo.commands import Way
    from pipeline.demo.folder import hold, is_marked
    from pipeline.demo.run import SHIPPED, Demo
    from pipeline.demo.telling.next_steps import Place, after_end, after_keep, show_next
    from pipeline.demo.telling.report import checkouts_line, say, show
    from pipeline.demo.telling.voice import Voice
    from pipeline.demo.worker import stop
    from pipeline.explain.show import show as show_story

    if stop_kept:
        others = [param.name for param in ctx.command.params if param.name not in (None, "stop_kept", "home")]
        refuse_with(ctx, "--stop", *map(str, others), why="it only stops what --keep has left in --home")
    if fresh and bootstrap is None:
        raise click.UsageError("--fresh needs --bootstrap: the demo's own Kafka is new each time")
    home = home.resolve()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack the pound sign
    on_stdout = json_file == Path("-")
    console = Console(stderr=on_stdout)
    if stop_kept:
        stopped = False
        if is_marked(home):
            with hold(home, to_empty=False):
                stopped = stop(home)
        console.print("stopped" if stopped else "nothing was running")
        return
    if json_file is not None and not on_stdout:
        if not json_file.parent.is_dir():
            raise click.UsageError(f"--json: there is no directory {json_file.parent}")
        if json_file.is_dir():
            raise click.UsageError(f"--json: {json_file} is a directory; name a file")
        if json_file.resolve().is_relative_to(home):
            raise click.UsageError(f"--json: {json_file} is in the demo's own directory; name a file elsewhere")
    if credit_limit is not None and (credit_limit * 1000).denominator != 1:
        raise click.UsageError("--credit-limit: at most three decimals; accounts are kept in thousandths of a pound")
    ours = _ours(with_client_config=bootstrap is not None)
    if bootstrap is None:
        for name in OF_ONES_OWN:
            os.environ.pop(name, None)
    way = Way(checkout, stock_ratio, None if credit_limit is None else int(credit_limit * 1000))
    demo = Demo(home, console, bootstrap or "", processes, keep, fresh, way, feed_first, explains)
    try:
        with orderly_end():
            result = demo.run(source or SHIPPED)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        what = f" {error.filename}" if error.filename else ""
        raise DemoFolderError(f"cannot write{what}: {error.strerror}; make room, or name another --home") from error
    show(console, result)
    differences = result.pop("differences")
    settled = checkouts_line(result, checkout)
    followed, stories = result.pop("followed"), result.pop("explained", None)
    if stories is not None:
        result["explained"] = [story.as_json() for story in stories]
    del result["customer_countries"], result["compensated"]
    if on_stdout:
        say_json(result)
    elif json_file is not None:
        _write(json_file, result)
    say(
        console,
        f"{result['commands']:,} commands and {result['events']:,} events in {result['seconds']:.1f} s: "
        f"{result['commands_per_second']:,.0f} commands/s, {result['events'] / result['seconds']:,.0f} events/s",
    )
    voice = Voice(console)
    voice.paragraph(settled)
    if differences:
        for line in differences[:20]:
            say(console, line, "red")
        say(console, f"{len(differences)} figures differ from the file", "bold red")
        sys.exit(1)
    less = ", less what was refused" if way.scarce else ""
    voice.paragraph(f"verified: every figure equals the recomputation from the file{less}", style="bold green")
    for story in stories or ():
        console.print()
        show_story(console, story)
    place = Place(home, bootstrap, ours, _given(ctx))
    steps = after_keep(place, result, followed) if keep else after_end(place, followed, explained=explains)
    show_next(console, steps, place, kept=keep)


def _given(ctx: click.Context) -> str:
    """Return the options that the next demo should have, too, as one types them."""
    words = ""
    for name, option in given(ctx).items():
        value = ctx.params[name]
        if name in OF_ONE_RUN:
            continue
        if isinstance(value, Fraction):
            value = Decimal(value.numerator) / value.denominator
        words += f" {option}" if value is True else f" {option} {shlex.quote(str(value))}"
    return words


def _ours(*, with_client_config: bool) -> str:
    """Return what stands before a command so that it reads the demo's tables, whatever defaults the user has here."""
    names = (
        "PIPELINE_TOPOLOGY",
        "PIPELINE_SCHEMAS",
        "PIPELINE_BOOTSTRAP",
        *(() if with_client_config else (VARIABLE, REGISTRY)),
    )
    words = [f"-u {name}" for name in names if os.environ.get(name)]
    try:
        has_file = bool(os.environ.get(CONFIG) or find_defaults())
    except (DefaultsError, OSError):
        has_file = True
    words += [f"{CONFIG}={os.devnull}"] if has_file else []
    return " ".join(["env", *words, ""]) if words else ""


def _write(file: Path, result: dict[str, Any]) -> None:
    try:
        file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {file}: {error.strerror}; name another file with --json") from None

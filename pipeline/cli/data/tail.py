"""`pipeline tail`: records of topics, decoded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pipeline.cli.options import Where, json_option, refuse_with, topology_option, where
from pipeline.cli.shown import json_text, say, say_json
from pipeline.cli.values import Moment
from pipeline.errors import TopologyError

if TYPE_CHECKING:
    from pipeline.tail.record import Shown
    from pipeline.topology import Topology

INTERRUPTED = 130  # as a shell has it
FIELDS_MAX = 400  # characters of one record; --json has all
HIDDEN = ("issued_ms", "time_ms", "reply_to", "fingerprint", "placed_offset", "placed_ms", "traceback")  # --json has it
IDS = ("command_id", "id", "correlation_id", "causation_id")


@click.command()
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC…")
@click.option("--key", help="Only records of this key.")
@click.option("--type", "type_", metavar="NAME", help="Only records of this type, such as OrderPlaced.")
@click.option("--since", type=Moment(), metavar="TIME|AGE", help="All that was stored since then, such as 10m ago.")
@click.option("-n", "--last", type=click.IntRange(0, 100_000), default=10, help="The last so many, without --since.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is stored from now on, until interrupted.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="End after so many records.")
@json_option
@where(topology_option)
@click.pass_context
def command(
    ctx: click.Context,
    topics: tuple[str, ...],
    key: str | None,
    type_: str | None,
    since: int | None,
    last: int,
    follow: bool,
    limit: int | None,
    as_json: bool,
    where: Where,
) -> None:
    """Show records of topics, decoded, in order of time.

    \b
    pipeline tail orders                        # the last 10 commands and events of an aggregate
    pipeline tail orders.event --since 10m --type OrderPlaced
    pipeline tail revenue --key France/2009-12  # rows of a projection
    pipeline tail reports --follow              # all topics of a service, as it comes
    pipeline tail orders.replies --json --limit 100

    TOPIC is a topic, or the name of an aggregate, saga, projection or service. Needs no worker, and writes nothing.
    Only what is committed. What has no schema is shown as text; what cannot be decoded, with the reason. Without
    --since, --key and --type may have to read a whole topic.
    """
    from pipeline.tail.run import Tail, Wanted

    if since is not None:
        refuse_with(ctx, "--since", "last", why="it shows all since then; --limit ends it early")
    wanted = Wanted(key, type_, since, last, follow)
    shown = 0
    try:
        with Tail(where.address, _topology(ctx, where), topics) as tail:
            for record in tail.records(wanted):
                say_json(record.as_json()) if as_json else _say(record)
                shown += 1
                if shown == limit:
                    break
            if held := tail.held_back:
                say(f"an open transaction holds back what comes from here on: {', '.join(held)}", err=True)
            if not shown and not as_json:
                say(f"no such record in {', '.join(tail.topics)}", err=True)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _topology(ctx: click.Context, where: Where) -> Topology | None:
    """Return the topology; None if there is none, and none was asked for: records have their schemas on the broker."""
    try:
        return where.topology
    except TopologyError:
        if ctx.get_parameter_source("topology") is ParameterSource.DEFAULT:
            return None
        raise


def _say(record: Shown) -> None:
    """Print a record: where it stands and what it is; then its fields, and what stands beside them."""
    about = dict(record.about)
    version = f"  version {about.pop('version')}" if "version" in about else ""
    key = record.key if record.key is not None else record.key_base64
    what = record.kind if record.type is None else f"{record.kind} {record.type}"
    say(f"{record.time}  {record.place}  {'no key' if key is None else f'key {key}'}  {what}{version}")
    if record.error is not None:
        say(f"    cannot be decoded: {record.error}")
    if record.value is not None:
        text = _fields(record.value) if isinstance(record.value, dict) else json_text(record.value)
        if text:
            say(f"    {text if len(text) <= FIELDS_MAX else f'{text[:FIELDS_MAX]}… (all of it: --json)'}")
    ids = {name: about[name] for name in IDS if about.get(name) is not None}
    others = {name: each for name, each in about.items() if name not in (*IDS, *HIDDEN) and each is not None}
    if text := _fields({**ids, **others}):
        say(f"    {text}")


def _fields(fields: dict[str, Any]) -> str:
    return "  ".join(
        f"{name}={each if isinstance(each, str) and name in IDS else json_text(each)}" for name, each in fields.items()
    )

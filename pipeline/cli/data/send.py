"""`pipeline send`: send commands, one by hand or a file of them, and show their outcomes."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console

from pipeline.cli.data.command_file import checked, checked_lines
from pipeline.cli.options import Where, given, json_option, refuse_with, topology_option, trace_option, where
from pipeline.cli.shown import json_text, say, say_fields, say_json, say_rows
from pipeline.cli.values import Seconds, duration_s
from pipeline.errors import NoReply, PipelineError, TopicError

if TYPE_CHECKING:
    from pipeline.client import Client, Pending
    from pipeline.topology import Topology

AGAIN = "Sent again under the same ids they have no second effect; without ids of your own they may"
TRACED_AS = "pipeline-send"
WHERE_SPANS_GO = "say where they are to go with OTEL_EXPORTER_OTLP_ENDPOINT, or with OTEL_TRACES_EXPORTER=console"
WINDOW = 1_000  # commands of a file that wait for their replies at once


@click.command()
@click.argument("aggregate", required=False)
@click.argument("key", required=False)
@click.argument("type_", metavar="[TYPE]", required=False)
@click.argument("fields", metavar="[JSON]", required=False)
@click.option("--file", type=click.File("rb"), help="Commands, one JSON object a line, in UTF-8; - reads stdin.")
@click.option("--wait/--no-wait", default=None, help="Wait for the outcome.  [default: wait for one, not for a file]")
@click.option("--timeout", type=Seconds(0.1, 3600), default=10.0, show_default=True, help="Seconds to wait.")
@click.option(
    "--id", "command_id", help="The command's id; a command sent again has the same id.  [default: a new one]"
)
@click.option("--expect", type=click.IntRange(0, 2**63 - 1), help="Version that the aggregate must be at.")
@click.option("--at", metavar="TIME", help="When to decide it: ISO 8601, in UTC unless it has a zone.")
@click.option("--after", metavar="DURATION", help="After how long to decide it: 90s, 15m, 2h or 7d.")
@json_option
@trace_option
@where(topology_option)
@click.pass_context
def command(
    ctx: click.Context,
    aggregate: str | None,
    key: str | None,
    type_: str | None,
    fields: str | None,
    file: IO[bytes] | None,
    wait: bool | None,
    timeout: float,
    command_id: str | None,
    expect: int | None,
    at: str | None,
    after: str | None,
    as_json: bool,
    trace: bool | None,
    where: Where,
) -> None:
    """Send a command of TYPE, with its fields as JSON, to the AGGREGATE of that KEY.

    \b
    pipeline send users anna RegisterUser '{"name": "Anna", "country": "France"}'
    pipeline send inventory 85048 ReceiveStock '{"quantity": 12}' --expect 3
    pipeline send users anna ChangeName '{"name": "Anne"}' --after 15m
    pipeline send --file commands.jsonl --wait

    A line of the file names aggregate, key and type, and may have fields, id, expect, issued_ms and at. All lines are
    checked before the first is sent.

    \b
    {"aggregate": "users", "key": "anna", "type": "ChangeName", "fields": {"name": "Anne"}}

    With --json, each command is an object with command_id and outcome: stored, accepted (with version, events,
    position), rejected (with reason, details) or unknown (with position, parked and held, as far as known).

    Exit code 0: stored, and with --wait decided and not rejected. 1: rejected, no reply in time, or only some were
    sent. 2: nothing was sent.
    """
    from pipeline.client import Client

    one = (aggregate, key, type_)
    if (file is None) == (aggregate is None) or (file is None and None in one):
        raise click.UsageError("give AGGREGATE KEY TYPE [JSON], or --file")
    refuse_with(
        ctx,
        "--file",
        *(("command_id", "expect", "at", "after") if file else ()),
        why="a line of the file has its own id, expect and at",
    )
    if at is not None and after is not None:
        raise click.UsageError("give only one of --at and --after")
    due_ms = _due_ms(at, after)
    wait = (file is None and due_ms is None) if wait is None else wait
    if not wait and "timeout" in given(ctx):
        raise click.UsageError("--timeout needs --wait: without it nothing is waited for")
    sent = Sent()
    with sent.told(), _traced(trace), Client(where.address, where.topology, "cli") as client:
        if file is not None:
            lines = list(checked_lines(client, file))
        else:
            line = {"aggregate": aggregate, "key": key, "type": type_, "fields": _fields(fields)}
            line |= {"id": command_id, "expect": expect, "at": due_ms}
            lines = [checked(client, line)]
        _check_topics(where.address, where.topology, {line["aggregate"] for line in lines})
        if wait and lines:
            client.listen()  # what keeps replies away is found before anything is sent
        show = say_json if as_json else _show_one if file is None else None
        outcomes = _send(client, lines, timeout if wait else None, sent, show)
    if file is not None and not as_json:
        say_rows([{"outcome": told, "commands": f"{count:,}"} for told, count in outcomes.most_common()])
    for reason, meaning in sent.meanings.items():
        say(f"{reason}: {meaning}" if file is not None else meaning, err=True)
    sys.exit(0 if outcomes.keys() <= {"accepted", "stored"} else 1)


class Sent:
    """What has been handed to the client, for the exit code of what fails afterwards; and what rejections mean."""

    def __init__(self) -> None:
        self.number = self.of = 0
        self.meanings: dict[str, str] = {}  # of the engine's own reasons for rejections

    @contextmanager
    def told(self) -> Iterator[None]:
        """Have an error after the first command end with 1 and say so: 2 means that nothing was sent."""
        try:
            yield
        except (PipelineError, OSError) as error:
            if not self.number:
                raise
            what = str(error) if isinstance(error, PipelineError) else f"its output cannot be written: {error.strerror}"
            say(f"error: {what}; {self.number:,} of {self.of:,} commands were sent. {AGAIN}", err=True)
            sys.exit(1)


@contextmanager
def _traced(trace: bool | None) -> Iterator[None]:
    """Wrap all that is sent in a trace, if it is wanted, and print its id."""
    from pipeline.adapters.tracing.setup import set_up
    from pipeline.engine.tracing.port import Kind

    tracing = set_up(TRACED_AS, trace)
    if tracing is None:
        yield
        return
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what has failed is told at the end
    span = tracing.of(TRACED_AS).start("pipeline send", Kind.INTERNAL, {})
    if span.header is not None:
        say(f"trace {span.header.decode().split('-')[1]}", err=True)
    try:
        with span:
            yield
    finally:
        span.end()
        if failed := tracing.close():
            say(f"warning: {failed:,} spans of the trace could not be exported; {WHERE_SPANS_GO}", err=True)


def _check_topics(bootstrap: str, topology: Topology, aggregates: Collection[str]) -> None:
    """Raise TopicError if a command topic is missing: a command to it would wait for it, and then be lost."""
    from pipeline.adapters.kafka import admin
    from pipeline.adapters.kafka.topics import topic_names
    from pipeline.model import TopicKind

    needed = {topology.names.get(topic, topic) for topic in map(TopicKind.COMMAND.topic, aggregates)}
    if missing := sorted(needed - topic_names(admin(bootstrap))) if needed else []:
        raise TopicError(
            f"the topic {', '.join(missing)} does not exist; create it with: pipeline topics create {topology.name}; "
            "nothing was sent"
        )


def _due_ms(at: str | None, after: str | None) -> int | None:
    """Return when the command is due, in milliseconds since the epoch."""
    from pipeline.client.wire.as_of import parse_time

    if at is not None:
        return parse_time(at)
    if after is None:
        return None
    if (seconds := duration_s(after)) is None:
        raise click.UsageError(f"--after {after!r} is not a duration; give one such as 90s, 15m, 2h or 7d")
    return int(1000 * (time.time() + seconds))


def _fields(text: str | None) -> Any:
    from pipeline.adapters.json.reading import parsed

    return {} if text is None else parsed(text)


def _summary(outcome: dict[str, Any]) -> str:
    """Return `accepted`, or `rejected: out_of_stock`."""
    told = str(outcome["outcome"])
    return f"{told}: {outcome['reason']}" if told == "rejected" else told


def _show_one(outcome: dict[str, Any]) -> None:
    """Print the outcome of a command for people."""
    match outcome["outcome"]:
        case "stored":
            say(f"stored: {outcome['command_id']}")
        case "unknown":
            say(outcome["cause"])
        case "rejected":
            say(_summary(outcome))
            say_fields(outcome["details"], "  ")
        case _:
            say(f"accepted: version {outcome['version']}, at {outcome['position']}")
            for event in outcome["events"]:
                fields = dict(event)
                say(f"  {fields.pop('type')} {json_text(fields)}")
            if not outcome["events"] and outcome["complete"]:
                say("  no events: its state is as it was")


def _outcome(pending: Pending, timeout: float) -> dict[str, Any]:
    """Wait for the outcome of a command; return it as JSON in the one shape that it has here."""
    from pipeline.client.commands import outcome_json

    try:
        told = outcome_json(pending.result(timeout))
    except NoReply as error:
        told = {"outcome": "unknown", "cause": str(error), "position": error.stored, "parked": error.parked}
        told |= {"issued_ms": error.issued_ms, "held": error.held}
    return {"command_id": pending.id, **told}


def _send(
    client: Client,
    lines: Sequence[dict[str, Any]],
    timeout: float | None,
    sent: Sent,
    show: Callable[[dict[str, Any]], None] | None,
) -> Counter[str]:
    """Send the commands in order; return how many had which outcome. `timeout`: None does not wait for outcomes."""
    from rich.progress import Progress

    from pipeline.client.wire.outcome import explained
    from pipeline.model import Rejected

    console = Console(stderr=True)
    outcomes: Counter[str] = Counter()
    waiting: deque[tuple[str, Pending]] = deque()
    held: set[str] = set()  # aggregates whose commands are not decided at present: the rest of theirs is not waited for
    sent.of = len(lines)

    def tell(outcome: dict[str, Any]) -> None:
        outcomes[_summary(outcome)] += 1
        if outcome["outcome"] == "rejected":
            meaning = explained(Rejected(outcome["reason"], outcome["details"]))
            sent.meanings |= {} if meaning is None else {outcome["reason"]: meaning}
        if show is not None:
            show(outcome)
        elif outcome.get("held"):
            sent.meanings["unknown"] = outcome["held"]

    def take(timeout: float) -> None:
        aggregate, pending = waiting.popleft()
        outcome = _outcome(pending, 0 if aggregate in held else timeout)
        if outcome.get("held"):
            held.add(aggregate)
        tell(outcome)

    with Progress(console=console, transient=True, disable=show is not None or not console.is_terminal) as progress:
        for line in progress.track(lines, description="sending"):
            if timeout is None:
                client.send(**line)
            else:
                waiting.append((line["aggregate"], client.ask(**line)))
            sent.number += 1
            while timeout is not None and len(waiting) > WINDOW:
                take(timeout)
        while timeout is not None and waiting:
            take(timeout)
        if lines:
            client.flush()
    for line in lines if timeout is None else ():
        tell({"command_id": line["command_id"], "outcome": "stored"})
    return outcomes

"""`pipeline send`: send commands, one by hand or a file of them, and show their outcomes."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from pipeline.cli.options import Where, json_option, topology_option, where
from pipeline.errors import InvalidCommand, PipelineError

if TYPE_CHECKING:
    from pipeline.client import Client, Outcome, Pending

WINDOW = 1_000  # commands of a file that wait for their replies at once


@click.command()
@click.argument("aggregate", required=False)
@click.argument("key", required=False)
@click.argument("type_", metavar="[TYPE]", required=False)
@click.argument("fields", metavar="[JSON]", required=False)
@click.option("--file", type=click.File("r", encoding="utf-8"), help="Commands, one JSON object a line; - reads stdin.")
@click.option("--wait/--no-wait", default=None, help="Wait for the outcome.  [default: wait for one, not for a file]")
@click.option("--timeout", type=click.FloatRange(0.1, 3600), default=10.0, show_default=True, help="Seconds to wait.")
@click.option(
    "--id", "command_id", default="", show_default=False, help="The command's id; a command sent again has the same id."
)
@click.option("--expect", type=click.IntRange(0), help="Version that the aggregate must be at.")
@click.option("--at", metavar="TIME", help="When to decide it: ISO 8601, in UTC unless it has a zone.")
@click.option("--after", metavar="DURATION", help="After how long to decide it: 90s, 15m, 2h or 7d.")
@json_option
@where(topology_option)
def command(
    aggregate: str | None,
    key: str | None,
    type_: str | None,
    fields: str | None,
    file: IO[str] | None,
    wait: bool | None,
    timeout: float,
    command_id: str,
    expect: int | None,
    at: str | None,
    after: str | None,
    as_json: bool,
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

    Exit code 0: stored, and with --wait decided and not rejected. 1: rejected, or no reply in time. 2: not sent.
    """
    from pipeline.client import Client

    one = (aggregate, key, type_)
    if (file is None) == (aggregate is None) or (file is None and None in one):
        raise click.UsageError("give AGGREGATE KEY TYPE [JSON], or --file")
    if (at is not None) + (after is not None) + (file is not None) > 1:
        raise click.UsageError("give only one of --at, --after and --file; a line of the file may have its own at")
    due_ms = _due_ms(at, after)
    if due_ms is not None and wait is None:
        wait = False
    with Client(where.address, where.topology, "cli") as client:
        if file is not None:
            lines = list(_lines(client, file))
            bad = _send_all(client, lines, timeout if wait else None, as_json=as_json)
        else:
            line = {"aggregate": aggregate, "key": key, "type": type_, "fields": _fields(fields)}
            line |= {"id": command_id, **({} if expect is None else {"expect": expect})}
            line |= {} if due_ms is None else {"at": due_ms}
            bad = _send_one(client, _checked(client, line), None if wait is False else timeout, as_json=as_json)
    sys.exit(1 if bad else 0)


def _due_ms(at: str | None, after: str | None) -> int | None:
    """Return when the command is due, in milliseconds since the epoch."""
    from pipeline.client.wire.as_of import parse_time

    if at is not None:
        return parse_time(at)
    if after is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", after.strip())
    if not found:
        raise click.UsageError(f"--after {after!r} is not a duration; give one such as 90s, 15m, 2h or 7d")
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]
    return int(1000 * (time.time() + seconds))


def _fields(text: str | None) -> Any:
    from pipeline.adapters.json.reading import parsed

    return {} if text is None else parsed(text)


def _lines(client: Client, file: IO[str]) -> Iterator[dict[str, Any]]:
    """Yield the lines as keyword arguments of Client.send. Raises InvalidCommand with the number of a wrong line."""
    from pipeline.adapters.json.reading import parsed

    for number, text in enumerate(file, 1):
        if text.strip():
            try:
                yield _checked(client, parsed(text))
            except PipelineError as error:
                raise InvalidCommand(f"line {number}: {error}; nothing was sent") from None


def _checked(client: Client, line: Any) -> dict[str, Any]:
    """Return a checked command as keyword arguments of Client.send. Raises InvalidCommand."""
    from pipeline.client.wire.as_of import parse_time

    wanted, possible = {"aggregate", "key", "type"}, {"fields", "id", "expect", "issued_ms", "at"}
    if not isinstance(line, dict) or not wanted <= line.keys() <= wanted | possible:
        raise InvalidCommand(
            "a command needs aggregate, key and type, and may have fields, id, expect, issued_ms and at"
        )
    at = line.get("at")
    at = parse_time(at) if isinstance(at, str) else at
    made = client.commands.from_json(line["aggregate"], line["type"], line.get("fields", {}))
    to, expected = {"aggregate": line["aggregate"], "key": line["key"], "command": made}, line.get("expect")
    ready = client.commands.write(
        **to, command_id=line.get("id") or "", expected_version=expected, issued_ms=line.get("issued_ms"), at=at
    )
    return {**to, "command_id": ready.id, "expected_version": expected, "issued_ms": ready.issued_ms, "at": at}


def _told(outcome: Outcome) -> str:
    """Return `accepted`, or `rejected: out_of_stock`."""
    from pipeline.model import Rejected

    return f"rejected: {outcome.reason}" if isinstance(outcome, Rejected) else "accepted"


def _send_one(client: Client, line: dict[str, Any], timeout: float | None, *, as_json: bool) -> bool:
    from pipeline.adapters.json.writing import to_json
    from pipeline.client.commands import outcome_json
    from pipeline.client.wire.outcome import explained
    from pipeline.errors import NoReply
    from pipeline.model import Rejected

    if timeout is None:
        client.send(**line)
        client.flush()
        click.echo(json.dumps({"command_id": line["command_id"]}) if as_json else f"stored: {line['command_id']}")
        return False
    try:
        outcome = client.send(**line, wait=timeout)
    except NoReply as error:
        click.echo(json.dumps({"command_id": error.command_id, "position": error.stored}) if as_json else str(error))
        return True
    if as_json:
        click.echo(json.dumps({"command_id": line["command_id"], **outcome_json(outcome)}, ensure_ascii=False))
    elif isinstance(outcome, Rejected):
        click.echo(f"{_told(outcome)}" + "".join(f"\n  {name}: {value}" for name, value in outcome.details.items()))
        if (meaning := explained(outcome)) is not None:
            click.echo(meaning, err=True)
    else:
        click.echo(f"accepted: version {outcome.version}, at {outcome.position}")
        for event in to_json(outcome.events, tagged=True):
            click.echo(f"  {event.pop('type')} {json.dumps(event, ensure_ascii=False)}")
    return isinstance(outcome, Rejected)


def _send_all(client: Client, lines: list[dict[str, Any]], timeout: float | None, *, as_json: bool) -> bool:
    """Send the lines in order, and show how many had which outcome. Return whether any failed."""
    from rich.progress import Progress

    from pipeline.client.wire.outcome import explained
    from pipeline.errors import NoReply
    from pipeline.model import Rejected

    console = Console(stderr=True)
    outcomes: Counter[str] = Counter()
    meanings: dict[str, str] = {}
    waiting: deque[Pending] = deque()

    def settle(left: int) -> None:
        while len(waiting) > left:
            pending = waiting.popleft()
            try:
                outcome = pending.result(timeout or 0)
                told = _told(outcome)
                if isinstance(outcome, Rejected) and (meaning := explained(outcome)) is not None:
                    meanings[outcome.reason] = meaning
            except NoReply:
                told = "no reply in time"
            outcomes[told] += 1
            if as_json:
                click.echo(json.dumps({"command_id": pending.id, "outcome": told}))

    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for line in progress.track(lines, description="sending"):
            if timeout is None:
                client.send(**line)
            else:
                waiting.append(client.ask(**line))
                settle(WINDOW)
        settle(0)
        client.flush()
    if timeout is None:
        outcomes["stored"] = len(lines)
    if not as_json:
        shown = Table("outcome", "commands")
        for told, count in outcomes.most_common():
            shown.add_row(told, f"{count:,}")
        Console().print(shown)
    for reason, meaning in meanings.items():
        click.echo(f"{reason}: {meaning}", err=True)
    return any(told not in ("accepted", "stored") for told in outcomes)

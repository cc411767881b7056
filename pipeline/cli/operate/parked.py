"""`pipeline parked`: list, show, redrive and discard the records that could not be folded."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, wraps
from typing import Any

import click
from rich.console import Console

from pipeline.cli.options import Where, json_option, topology_option, user, where
from pipeline.cli.shown import json_text, say, say_json, say_rows
from pipeline.client.drive import Driver
from pipeline.client.owner_request import Json, OwnerRequest, problem_of
from pipeline.client.wire.as_of import iso
from pipeline.errors import NotParked

PATIENCE_S, ANSWER_S = 30.0, 60.0
AT_ONCE = 100  # records of one request


class Workers:
    """Sends requests to any worker; each forwards what another one owns."""

    unavailable: Sequence[str] = ()  # the partitions that `keys` could not ask, each as "service topic-partition"
    is_anything_found = False  # by `keys`

    def __init__(self, where: Where, service: str | None) -> None:
        self._place, self._service = where, service
        self._driver = Driver()

    @cached_property
    def _asking(self) -> OwnerRequest:
        from pipeline.adapters.kafka import admin
        from pipeline.adapters.kafka.owners import Router

        topology = self._place.topology
        topology.chosen((self._service,) if self._service else ())  # raises for one that it does not have
        return OwnerRequest(Router(admin(self._place.address), topology), time.monotonic, PATIENCE_S)

    def ask(self, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Json:
        """Return the answer, retrying until patience ends. Raises an answer's error.

        `body`: JSON to post.
        """
        answer = self._driver.run(self._asking.of_any(path, query or {}, timeout_s=ANSWER_S, body=body))
        if error := problem_of(answer):
            raise error
        told: Json = answer.body
        return told

    def keys(self, service: str | None, topic: str | None, key: str | None) -> Iterator[dict[str, Any]]:
        """Yield the selected keys that have parked records, and say what is `unavailable`; `key` is text or base64."""
        unavailable: dict[str, None] = {}
        query = {"limit": "1000"} | ({"service": service} if service else {})
        while True:
            page = self.ask("/v1/parked", query)
            for each in page["parked"]:
                if topic in (None, each["topic"]) and (key is None or key in (each["key"], each["key_base64"])):
                    self.is_anything_found = True
                    yield each
            unavailable |= dict.fromkeys(page["unavailable"])
            if page["next"] is None:
                break
            query["after"] = page["next"]
        self.unavailable = tuple(unavailable)
        if unavailable:
            say(f"this is incomplete: no worker answers for {_summed_up(unavailable)}; try again soon", err=True)


def _summed_up(unavailable: Iterable[str]) -> str:
    """Return how many partitions of which services that are, and of which topics."""
    topics: dict[str, Counter[str]] = {}
    for service, _, place in (each.partition(" ") for each in unavailable):
        topics.setdefault(service, Counter())[place.rpartition("-")[0]] += 1
    return "; ".join(
        f"{counts.total()} partition{'s' * (counts.total() > 1)} of {service} ({', '.join(counts)})"
        for service, counts in topics.items()
    )


Meant = tuple[str | None, str | None, str | None]  # service, topic, key


def _chosen(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all four commands share."""

    @click.option("--service", help="Only what this service could not fold.")
    @click.option("--topic", help="Only records of this topic.")
    @click.option("--key", help="Only this key; in base64 if it is not text.")
    @json_option
    @where(topology_option)
    @wraps(function)
    def wrapped(service: str | None, topic: str | None, key: str | None, where: Where, **others: Any) -> None:
        workers = Workers(where, service)
        function(workers, (service, topic, key), **others)
        if workers.unavailable and not workers.is_anything_found:  # what is asked for may be where no one answers
            sys.exit(1)

    return wrapped


def _audited(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of commands that change something; `body` has them for the worker."""

    @click.option("--by", default=user, show_default="the user", help="Who does it; kept as a notice.")
    @click.option("--why", required=True, help="Why; kept as a notice.")
    @wraps(function)
    def wrapped(*arguments: Any, by: str, why: str, **others: Any) -> None:
        function(*arguments, body={"by": by, "why": why, "limit": AT_ONCE}, **others)

    return wrapped


@click.group()
def command() -> None:
    """Records that could not be folded are parked in a queue of their key, with all later ones of the key behind them.

    \b
    pipeline parked list
    pipeline parked show --key 85048
    pipeline parked redrive --key 85048 --why 'decide is mended'
    pipeline parked discard --key 85048 --why 'no Avro at all'
    pipeline resume orders --why 'it was the data'    # where a service is held, as too much raised
    """


def _where(each: dict[str, Any]) -> str:
    return f"/v1/parked/{each['service']}/{each['topic']}/{each['partition']}"


def _name(each: dict[str, Any]) -> str:
    return str(each["key"] if each["key"] is not None else each["key_base64"])


@command.command("list")
@_chosen
def list_(workers: Workers, meant: Meant, *, as_json: bool) -> None:
    """Show the keys that have parked records: how many, and the cause and time of the first.

    Exit code 1: nothing is found, and no worker answers for some partitions.
    """
    found = workers.keys(*meant)
    if as_json:
        for each in found:
            say_json(each)
        return
    rows = []
    for each in found:
        row = {"service": each["service"], "topic": f"{each['topic']}-{each['partition']}", "key": _name(each)}
        row |= {"waiting": each["waiting"], "since": iso(each["since_ms"]), "cause": each["cause"] or each["reason"]}
        rows.append(row)
    if rows:
        say_rows(rows)
    elif not workers.unavailable:
        say("nothing is parked")


@command.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Records of each key.")
@_chosen
def show(workers: Workers, meant: Meant, *, limit: int, as_json: bool) -> None:
    """Show the parked records of the selected keys, in order, with cause and traceback."""
    found = list(workers.keys(*meant))
    if not found and not as_json and not workers.unavailable:
        say("nothing is parked there")
    for each in found:
        query = {"key_base64": each["key_base64"], "limit": str(limit)}
        page = workers.ask(_where(each), query)
        if as_json:
            say_json(page)
            continue
        say(f"{each['service']} {each['topic']}-{each['partition']} {_name(each)}: {each['waiting']} wait")
        for record in page["records"]:
            value = "its value is only in the source topic" if record["without_value"] else record["record"]
            say(f"offset {record['offset']}: {record['cause'] or record['reason']}")
            say(f"  {json_text(value or record['value_base64'])}")
            if record["traceback"]:
                say(record["traceback"], keep="\n\t")


@command.command()
@click.option("--all", "every", is_flag=True, help="All keys of all services.")
@_chosen
@_audited
def redrive(workers: Workers, meant: Meant, *, every: bool, body: dict[str, Any], as_json: bool) -> None:
    """Fold the parked records of the selected keys, each key's in order, until one raises again.

    Exit code 1: some keys still have parked records.
    """
    if every == any(meant):
        raise click.UsageError("select keys with --key, --topic or --service; or give --all, which is all keys")
    _each_key(workers, list(workers.keys(*meant)), "redrive", lambda each: body, as_json=as_json)


@command.command()
@click.option("--all", "every", is_flag=True, help="All records of the selected keys, not only the first.")
@_chosen
@_audited
def discard(workers: Workers, meant: Meant, *, every: bool, body: dict[str, Any], as_json: bool) -> None:
    """Discard the first parked record of each selected key. The sender of a command gets the rejection `discarded`.

    Exit code 1: some were no longer the first.
    """
    if not any(meant):
        raise click.UsageError("select keys with --key, --topic or --service")

    def asked(each: dict[str, Any]) -> dict[str, Any]:
        return body | ({"all": True} if every else {"offset": each["offset"]})

    _each_key(workers, list(workers.keys(*meant)), "discard", asked, as_json=as_json, once=not every)


def _each_key(
    workers: Workers,
    keys: list[dict[str, Any]],
    action: str,
    body: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    as_json: bool,
    once: bool = False,
) -> None:
    """Repeat the action on each key until none of its records are left, or it stops."""
    from rich.progress import Progress

    console = Console(stderr=True)
    stopped = []
    with Progress(console=console, transient=True, disable=as_json or not console.is_terminal) as progress:
        task = progress.add_task(action, total=sum(each["waiting"] for each in keys))
        for each in keys:
            done, told = 0, {"left": each["waiting"], "cause": None}
            while told["left"] and told["cause"] is None:
                asked = {"key_base64": each["key_base64"], **body(each)}
                try:
                    told = workers.ask(f"{_where(each)}/{action}", body=asked)
                except NotParked as gone:  # the previous reply was lost, or another operator did it
                    told = {"done": 0, "left": 0, "cause": None if action == "redrive" else str(gone)}
                done += told["done"]
                progress.advance(task, told["done"])
                if once:
                    break
            outcome = {"done": done, "left": told["left"], "cause": told["cause"]}
            if as_json:
                say_json({**each, **outcome})
            else:
                text = f"{_name(each)}: {done} {action}n" if action == "redrive" else f"{_name(each)}: {done} discarded"
                left = f", {told['left']} left" if told["left"] else ""
                say(f"{text}{left}" + (f": {told['cause']}" if told["cause"] else ""))
            if told["cause"] is not None or (told["left"] and not once):
                stopped.append(each)
    if not keys and not as_json and not workers.unavailable:
        click.echo("nothing is parked there")
    if stopped:
        sys.exit(1)

"""`pipeline lag`: how far each service is behind, in records and in time, and what it waits for."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import Where, json_option, topology_option, where
from pipeline.cli.shown import say, say_json, say_rows
from pipeline.cli.values import Seconds
from pipeline.errors import BrokerUnreachable

if TYPE_CHECKING:
    from pipeline.adapters.kafka.lag.measuring import GroupLag, Measuring
    from pipeline.client.owner_request import Steps
    from pipeline.engine.plan import ServicePlan

Row = dict[str, Any]
STATUS_S = 2.0  # for a worker to say what it waits for
SHOWN_MAX = 40  # partitions, the oldest lag first
NOTHING, NO_WORKER = "nothing", "no_worker"


@click.command()
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only this service; repeatable.")
@click.option("--all", "every", is_flag=True, help="Show each partition, not only those that lag or wait.")
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option("--every", "every_s", type=Seconds(0.5, 3600), default=2.0, help="Seconds between two looks of --watch.")
@click.option("--at-most", type=Seconds(), help="Exit code 1 if a partition is further behind, in seconds.")
@json_option
@where(topology_option)
def command(
    services: tuple[str, ...],
    every: bool,
    watch: bool,
    every_s: float,
    at_most: float | None,
    as_json: bool,
    where: Where,
) -> None:
    """Show how far services are behind: records to fold, and the age of the next one.

    It is read from the topics: committed offsets, as Kafka's own tools show them, ends of logs, and when the next
    record was appended. No worker has to run. Where one answers, it says what a partition waits for: restore, copy,
    open_transaction, schema, retry, held, paused, parked_key; no_worker: none runs for the service.

    \b
    pipeline lag
    pipeline lag --service orders --watch
    pipeline lag --at-most 60 --json       # for a script
    """
    from pipeline.adapters.avro.codec import codecs
    from pipeline.adapters.kafka.lag.measuring import Measuring
    from pipeline.engine.plan import ServicePlan

    address, loaded = where.address, where.topology
    plans = [ServicePlan(service, codecs(loaded.schemas), loaded.names) for service in loaded.chosen(services)]
    workers = Waiting(where, [plan.service.name for plan in plans])
    is_late = False
    with Measuring(address, {plan.group: list(plan.source_topics) for plan in plans}) as measuring:
        try:
            for found in _looks(measuring, plans, workers, every_s if watch else None):
                totals = [_total(name, rows) for name, rows in found.items()]
                if as_json:
                    for row in (*totals, *(row for rows in found.values() for row in rows)):
                        say_json({"at_ms": time.time_ns() // 1_000_000, **row} if watch else row)
                else:
                    _show(totals, found, every=every, clear=watch and sys.stdout.isatty())
                ages = [row["seconds"] for rows in found.values() for row in rows]
                is_late = at_most is not None and any(seconds is None or seconds > at_most for seconds in ages)
        except KeyboardInterrupt:
            click.echo()
    sys.exit(is_late)


def _looks(
    measuring: Measuring, plans: Sequence[ServicePlan], workers: Waiting, every_s: float | None
) -> Iterator[dict[str, list[Row]]]:
    """Yield the rows of each service, once, or again and again with a pause; a broker that is away is waited for."""
    is_first = True
    while True:
        try:
            lags, waits_for = measuring.measure(), workers.ask()
        except BrokerUnreachable as error:
            if is_first:
                raise
            say(f"no figures: {error}", err=True)
        else:
            yield {
                plan.service.name: [_row(plan.service.name, lag, waits_for) for lag in lags[plan.group]]
                for plan in plans
            }
        if every_s is None:
            return
        is_first = False
        time.sleep(every_s)


def _row(service: str, lag: GroupLag, waits_for: Mapping[str, Mapping[str, Row]]) -> Row:
    row: Row = {"service": service, "topic": lag.tp.topic, "partition": lag.tp.partition}
    row |= {"committed": lag.committed, "end": lag.end, "records": lag.records, "seconds": lag.seconds}
    if service not in waits_for:
        return row | {"waits_for": NO_WORKER}
    place = waits_for[service].get(f"{lag.tp.topic}-{lag.tp.partition}", {})
    row |= {"waits_for": place.get("waits_for")}  # None: no worker that answers has it
    return row | ({"restore": place["restore"]} if "restore" in place else {})


def _total(service: str, rows: Sequence[Row]) -> Row:
    ages = [row["seconds"] for row in rows]
    return {
        "service": service,
        "partitions": len(rows),
        "records": sum(row["records"] for row in rows),
        "seconds": None if None in ages else max(ages, default=0.0),
        "waits_for": dict(Counter(row["waits_for"] or "unknown" for row in rows if row["waits_for"] != NOTHING)),
    }


def _show(totals: Sequence[Row], found: Mapping[str, Sequence[Row]], *, every: bool, clear: bool) -> None:
    if clear:
        click.clear()
    ages = [total["seconds"] for total in totals]
    oldest = span(None if None in ages else max(ages, default=0.0))
    say(f"{sum(total['records'] for total in totals)} records to fold, the oldest {oldest} old")
    say_rows([_people(total) for total in totals])
    for service, rows in found.items():
        chosen = [row for row in rows if every or row["records"] or row["waits_for"] not in (NOTHING, NO_WORKER)]
        chosen.sort(key=lambda row: (-(row["seconds"] or 0.0), -row["records"]))
        shown = chosen if every else chosen[:SHOWN_MAX]
        if shown:
            say_rows([_shown(row) for row in shown], service)
        if left := len(chosen) - len(shown):
            say(f"and {left} more; --all shows them")


def _people(total: Row) -> Row:
    causes = ", ".join(f"{count} {_words(cause)}" for cause, count in total["waits_for"].items())
    shown = {name: total[name] for name in ("service", "partitions", "records")}
    return {**shown, "behind": span(total["seconds"]), "waits for": causes or NOTHING}


def _shown(row: Row) -> Row:
    waits_for = _words(row["waits_for"] or "unknown")
    if restore := row.get("restore"):
        waits_for += f" {restore['done']} of {restore['target']}"
    told = {"partition": f"{row['topic']}-{row['partition']}", "records": row["records"]}
    return told | {"behind": span(row["seconds"]), "waits for": waits_for}


def _words(cause: str) -> str:
    return cause.replace("_", " ")


def span(seconds: float | None) -> str:
    """Return a time for people, in its two largest units; `?` if it is not known."""
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{seconds:.1f} s"
    left = round(seconds)
    for size, name, less, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if left >= size:
            return f"{left // size} {name} {left % size // less} {smaller}"
    raise AssertionError(seconds)


class Waiting:
    """Asks the workers of services what their partitions wait for."""

    def __init__(self, where: Where, services: Sequence[str]) -> None:
        from pipeline.adapters.kafka import admin
        from pipeline.adapters.kafka.owners import Router
        from pipeline.client.drive import Driver

        self._router, self._services, self._driver = Router(admin(where.address), where.topology), services, Driver()

    def ask(self) -> dict[str, dict[str, Row]]:
        """Return what is said of partitions, such as `users.command-0`, by service; services without workers not."""
        return self._driver.run(self._steps())

    def _steps(self) -> Steps[dict[str, dict[str, Row]]]:
        from pipeline.client.owner_request import Blocking, HttpCall
        from pipeline.errors import TableUnavailable

        found: dict[str, dict[str, Row]] = {}
        urls: dict[str, None] = {}
        for service in self._services:
            try:
                of_service = yield Blocking(lambda service=service: self._router.workers(service))  # type: ignore[misc]
            except TableUnavailable:  # the coordinator is away: what a service waits for is not known
                of_service = [""]
            if of_service:
                found[service] = {}
                urls |= dict.fromkeys(url for url in of_service if url)
        for url in urls:
            answer = yield HttpCall(url, "/v1/status", {}, STATUS_S)
            if answer is None or answer.status != 200 or not isinstance(answer.body, dict):
                continue
            for service, status in answer.body.items():
                if service in found and isinstance(status, dict):
                    found[service] |= status.get("lag", {})
        return found

"""`pipeline reset`: set the groups' offsets to where the services stand, after the broker has lost them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import Where, json_option, topology_option, where
from pipeline.cli.shown import say, say_json, say_rows
from pipeline.errors import RecordsLost

if TYPE_CHECKING:
    from pipeline.engine.state.resets import Reset


@click.command()
@click.option("--to-tables", is_flag=True, required=True, help="To where the tables stand, and reactions with them.")
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only this service; repeatable.")
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Where the log no longer has what is to be folded next, go on from its beginning; without what is lost.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be set, and set nothing.")
@click.option("--yes", is_flag=True, help="Do not ask, for scripts.")
@json_option
@where(topology_option)
def command(
    to_tables: bool, services: tuple[str, ...], accept_loss: bool, dry_run: bool, yes: bool, as_json: bool, where: Where
) -> None:
    """Set the offsets of services that do not run to where they stand, all source topics at once.

    For offsets that the broker has forgotten (offsets.retention.minutes), that were set by hand, or whose group was
    deleted. Where a service stands is what its commits have noted, reactions included, so nothing is done twice and
    nothing skipped. Refuses if a worker runs, or if a log does not have what is to be folded next.
    """
    from pipeline.adapters.avro.codec import codecs
    from pipeline.adapters.kafka import admin
    from pipeline.adapters.kafka.resetting import check_empty, find_resets, set_offsets
    from pipeline.engine.plan import ServicePlan
    from pipeline.engine.state.resets import losses

    if as_json and not (yes or dry_run):
        raise click.UsageError("--json asks nothing; give --yes or --dry-run, too")
    address, loaded = where.address, where.topology
    client = admin(address)
    plans = [ServicePlan(service, codecs(loaded.schemas), loaded.names) for service in loaded.chosen(services)]
    if not dry_run:
        check_empty(client, plans)
    found = {plan.service.name: find_resets(address, client, plan) for plan in plans}
    changed = {name: [each for each in of if each.offset != each.target or each.lost] for name, of in found.items()}
    rows = [_row(name, each) for name, of in changed.items() for each in of]
    if as_json:
        for row in rows:
            say_json(row)
    elif rows:
        say_rows(rows)
    else:
        say("all offsets are where the services stand")
    if not accept_loss and (lost := [why for of in changed.values() for why in losses(of)]):
        raise RecordsLost(
            f"nothing was set: {'; '.join(lost)}. What was not folded yet is lost; to go on without it, from the "
            "beginning of such a log, add --accept-loss"
        )
    if dry_run or not rows:
        return
    if not yes:
        click.confirm(f"Set the offsets of {len(rows)} partitions?", abort=True)
    for plan in plans:
        if of := changed[plan.service.name]:
            set_offsets(address, plan, of)
            if not as_json:
                say(f"{plan.service.name}: {len(of)} offsets are set")


def _row(service: str, reset: Reset) -> dict[str, Any]:
    """Return what is to be set for a partition, for people and machines."""
    told = {"service": service, "topic": reset.tp.topic, "partition": reset.tp.partition, "offset": reset.offset}
    return told | {"stands_at": reset.stands_at, "set_to": reset.target, "lost": reset.lost or None}

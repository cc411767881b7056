"""`pipeline topics`: create and check topics, and show or apply their ACLs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import click

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.access.acls import apply_acls
from pipeline.adapters.kafka.access.rules import Principals, rules
from pipeline.adapters.kafka.topic_settings import mend
from pipeline.adapters.kafka.topics import (
    check_counts,
    check_topics,
    create_topics,
    even_out,
    refuse_other,
    setting_differences,
    settings_text,
)
from pipeline.cli.options import Where, given, json_option, topology_argument, where
from pipeline.cli.shown import say, say_json
from pipeline.engine.plan import ServicePlan
from pipeline.errors import TopicError, TopologyError
from pipeline.model.service import NAME


@click.group()
def command() -> None:
    """The topics of a topology: created explicitly, never by accident."""


@command.command()
@topology_argument
@click.option(
    "--service", "services", multiple=True, metavar="NAME", help="Only this service's own topics; repeatable."
)
@click.option(
    "--partitions", type=click.IntRange(1, 10_000), default=4, show_default=True, help="Partitions of each topic."
)
@click.option("--replication", type=click.IntRange(1), default=1, show_default=True, help="Copies of each partition.")
@json_option
@where()
@click.pass_context
def create(
    ctx: click.Context, services: tuple[str, ...], partitions: int, replication: int, as_json: bool, where: Where
) -> None:
    """Create the topics of TOPOLOGY that do not exist yet.

    Their number of partitions cannot be changed later, as it decides each key's partition.
    """
    loaded = where.topology
    plans = [ServicePlan(service, codecs(loaded.schemas)) for service in loaded.chosen(services)]
    client, asked = admin(where.address), given(ctx)
    refuse_other(
        client, plans, partitions if "partitions" in asked else 0, replication if "replication" in asked else 0
    )
    created = create_topics(client, plans, partitions, replication)
    for topic in created:
        if as_json:
            say_json({"topic": topic, "created": True})
        else:
            say(f"created {topic}")
    if not created and not as_json:
        click.echo("all topics exist")
    if found := setting_differences(client, plans):
        raise TopicError(settings_text(found, where.name))


@command.command()
@topology_argument
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only this service; repeatable.")
@click.option(
    "--fix",
    is_flag=True,
    help="Give topics the settings that they have to have, and those without records the partitions that they lack. No "
    "record is lost by it.",
)
@json_option
@where()
def check(services: tuple[str, ...], fix: bool, as_json: bool, where: Where) -> None:
    """Check that the topics of TOPOLOGY exist, match each other in partitions, and keep what they have to keep."""
    client = admin(where.address)
    plans = [ServicePlan(service, codecs(where.topology.schemas)) for service in where.topology.chosen(services)]
    found = setting_differences(client, plans)
    if found and not fix:
        raise TopicError(settings_text(found, where.name))
    mend(client, found)
    for difference in found:
        if as_json:
            say_json({"changed": difference.topic, "setting": difference.setting, "before": difference.found})
        else:
            say(f"changed {difference.topic}: {difference.setting} was {difference.found}")
    for topic, before, after in even_out(client, plans) if fix else ():
        if as_json:
            say_json({"changed": topic, "partitions": after, "before": before})
        else:
            say(f"changed {topic}: partitions {before} -> {after}")
    for plan in plans:
        check_topics(client, plan, where.name)
        check_counts(where.address, client, plan)
        if as_json:
            say_json({"service": plan.service.name, "correct": True})
        else:
            say(f"{plan.service.name}: all topics are correct")


@command.command()
@topology_argument
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only this service's principal; repeatable.")
@click.option(
    "--principal",
    "principals",
    multiple=True,
    metavar="SERVICE=PRINCIPAL",
    help="The principal of a service's workers, such as orders=User:CN=orders; repeatable.  [default: User:<service>]",
)
@click.option(
    "--requester",
    "requesters",
    multiple=True,
    metavar="NAME=PRINCIPAL",
    help="An outside sender of commands with replies on <NAME>.reply, such as cli=User:anna; repeatable.",
)
@click.option("--apply", is_flag=True, help="Add them to the cluster instead of showing them.")
@json_option
@where()
def acls(
    services: tuple[str, ...],
    principals: tuple[str, ...],
    requesters: tuple[str, ...],
    apply: bool,
    as_json: bool,
    where: Where,
) -> None:
    """Show the ACLs that enforce the borders between the services of TOPOLOGY on the broker.

    Each service's principal may read and write its own topics, read the event topics that it follows, and send commands
    to the services that it asks. A broker with an authorizer refuses everything else.
    """
    if apply and as_json:
        raise click.UsageError("--apply and --json do not go together: --json shows the ACLs; choose one")
    loaded = where.topology
    chosen = {service.name for service in loaded.chosen(services)}
    plans = [ServicePlan(service, codecs(loaded.schemas), loaded.names) for service in loaded.chosen(())]
    who = Principals(_named(principals, loaded.services), _named(requesters))
    wanted = rules(loaded, plans, who)
    if services:
        asked = {who.runs(plan) for plan in plans if plan.service.name in chosen}
        wanted = [rule for rule in wanted if rule.principal in asked]
    if apply:
        count = apply_acls(admin(where.address), wanted)
        click.echo(f"{count} ACLs are applied")
        return
    for rule in wanted:
        if as_json:
            click.echo(json.dumps(rule._asdict()))
        else:
            name = f"{rule.name}*" if rule.prefixed else rule.name
            click.echo(f"{rule.principal}  {rule.resource} {name}  {' '.join(rule.operations)}")


def _named(given: Sequence[str], known: Collection[str] | None = None) -> dict[str, str]:
    """Parse each `name=principal`."""
    found = {}
    for each in given:
        name, sign, principal = each.partition("=")
        kind, colon, who = principal.partition(":")
        if not (sign and name.strip() and kind and colon and who):
            raise click.UsageError(f"{each!r} is not of the form NAME=User:principal")
        if known is not None and name not in known:
            raise TopologyError(f"no service {name!r}; there are {', '.join(sorted(known))}")
        if not NAME.fullmatch(name):
            raise click.UsageError(f"{name!r} cannot name a requester; use lower-case letters, digits and underscores")
        found[name] = principal
    return found

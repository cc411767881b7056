"""`pipeline groups`: who folds what, how far each service is, and which transactions are open."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import Where, json_option, topology_option, where
from pipeline.cli.shown import say, say_json, say_rows
from pipeline.errors import TableUnavailable

if TYPE_CHECKING:
    from pipeline.adapters.kafka.inspection.groups import GroupNow, Member
    from pipeline.adapters.kafka.inspection.transactions import OpenTransaction
    from pipeline.engine.ports import TP

OPEN_S = 1.0  # a transaction that is open for less is one under way


@click.command()
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only this service; repeatable.")
@click.option("--owner", "owned", nargs=2, metavar="TABLE KEY", help="Only who owns the partition of this key.")
@click.option("--partitions", "each", is_flag=True, help="Each partition: its owner, what is committed, the end.")
@json_option
@where(topology_option)
def command(services: tuple[str, ...], owned: tuple[str, str] | None, each: bool, as_json: bool, where: Where) -> None:
    """Show the consumer group of each service: its workers and their partitions, how far they are, its state.

    \b
    pipeline groups
    pipeline groups --owner inventory 85048     # the worker that has this key
    pipeline groups --service orders --partitions

    Also the transactions that have been open for longer than a second, with the transactional ids of those who may have
    left them open: the broker ends them after a minute, and until then readers wait there. From the broker alone; no
    worker is asked. Lag counts offsets up to the end, so the marks of transactions, too.
    """
    from pipeline.adapters.kafka import admin
    from pipeline.adapters.kafka.inspection.groups import group_now
    from pipeline.adapters.kafka.inspection.transactions import open_transactions
    from pipeline.adapters.kafka.topics import partition_counts
    from pipeline.engine.ports import TP
    from pipeline.verify.checks.parked import source_topics
    from pipeline.verify.run import known_registry

    if owned:
        _say_owner(where, *owned, as_json=as_json)
        return
    address, topology = where.address, where.topology
    chosen = topology.chosen(services)
    client, registry = admin(address), known_registry(address, topology)
    counts = partition_counts(client)
    found: list[tuple[str, GroupNow, list[OpenTransaction]]] = []
    for service in chosen:
        folded = {topology.names.get(topic, topic) for topic in source_topics(service, registry)}
        topics = {topic: counts[topic] for topic in folded if topic in counts}
        group = group_now(address, client, topology.names.get(service.name, service.name), topics)
        tps = [TP(topic, n) for topic, count in topics.items() for n in range(count)]
        found.append((service.name, group, open_transactions(address, client, tps, OPEN_S)))
    for name, group, opened in found if as_json else ():
        say_json({"service": name, **_as_json(group), "open_transactions": [_open(each, found) for each in opened]})
    if as_json:
        return
    say_rows([_summary(name, group) for name, group, _ in found])
    members = [_member(name, member) for name, group, _ in found for member in group.members]
    if members:
        say_rows(members, "workers")
    if each:
        say_rows([_place(name, group, n) for name, group, _ in found for n in range(len(group.places))], "partitions")
    hidden = {opened.tp: opened for _, _, of in found for opened in of}
    if hidden:
        say_rows([_open(opened, found) for opened in hidden.values()], "open transactions")


def _say_owner(where: Where, table: str, key: str, *, as_json: bool) -> None:
    """Print which worker has a key. Raises TableUnavailable if none has it now."""
    from pipeline.adapters.kafka import admin
    from pipeline.adapters.kafka.owners import Router

    router = Router(admin(where.address), where.topology)
    service, topic = router.home(table)
    partition = router.partition(table, key)
    told = {"table": table, "key": key, "service": service.name, "topic": topic, "partition": partition}
    try:
        told |= {"worker": router.holder(table, partition), "why": None}
    except TableUnavailable as error:
        if not as_json:
            raise
        told |= {"worker": None, "why": str(error)}
    if as_json:
        say_json(told)
    else:
        say(f"{table} {key}: {topic}/{partition}, service {service.name}, at {told['worker']}")


def _summary(name: str, group: GroupNow) -> dict[str, Any]:
    owned = sum(place.owner is not None for place in group.places)
    paused = next((place.pause for place in group.places if place.pause is not None), None)
    state = group.state if paused is None else f"{group.state}, paused by {paused.by}: {paused.why}"
    row = {"service": name, "state": state, "workers": len(group.members)}
    return row | {"partitions": f"{owned} of {len(group.places)}", "lag": sum(place.lag for place in group.places)}


def _member(name: str, member: Member) -> dict[str, Any]:
    row = {"service": name, "member": member.name, "host": member.host, "serves": member.url}
    return row | {"partitions": named(member.partitions)}


def _place(name: str, group: GroupNow, n: int) -> dict[str, Any]:
    place = group.places[n]
    row = {"service": name, "partition": f"{place.tp.topic}/{place.tp.partition}", "committed": place.committed}
    return row | {"end": place.end, "lag": place.lag, "owner": None if place.owner is None else place.owner.name}


def _open(opened: OpenTransaction, found: Iterable[tuple[str, GroupNow, Any]]) -> dict[str, Any]:
    """Return an open transaction, with the ids of those who may have left it open: all who write in such partitions."""
    age_s = None if opened.since_ms is None else max(0, round(time.time() - opened.since_ms / 1000))
    writers = {w for _, group, _ in found for place in group.places for w in place.writers}
    row = {"partition": f"{opened.tp.topic}/{opened.tp.partition}", "from": opened.offset, "end": opened.end}
    return row | {"seconds": age_s, "perhaps of": ", ".join(sorted(writers))}


def _as_json(group: GroupNow) -> dict[str, Any]:
    return {
        "group": group.name,
        "state": group.state,
        "coordinator": group.coordinator,
        "members": [
            {"name": m.name, "host": m.host, "serves": m.url, "partitions": [f"{t}/{n}" for t, n in m.partitions]}
            for m in group.members
        ],
        "partitions": [
            {
                "topic": place.tp.topic,
                "partition": place.tp.partition,
                "committed": place.committed,
                "low": place.low,
                "end": place.end,
                "lag": place.lag,
                "owner": None if place.owner is None else place.owner.name,
                "transactional_ids": list(place.writers),
                "pause": None if place.pause is None else place.pause._asdict(),
            }
            for place in group.places
        ],
    }


def named(partitions: Sequence[TP]) -> str:
    """Return partitions in short: `orders.command/0-3, users.event/0,2`."""
    topics: dict[str, list[int]] = {}
    for topic, n in sorted(partitions):
        topics.setdefault(topic, []).append(n)
    return ", ".join(f"{topic}/{_ranges(numbers)}" for topic, numbers in topics.items())


def _ranges(numbers: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for n in numbers:
        if parts and n == parts[-1][-1] + 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    return ",".join(str(of[0]) if len(of) == 1 else f"{of[0]}-{of[-1]}" for of in parts)

"""`pipeline resume`: have a service go on that is paused or held."""

from __future__ import annotations

import sys
from urllib.parse import quote

import click

from pipeline.cli.operate.parked import Workers
from pipeline.cli.operate.pause import paused_now
from pipeline.cli.options import Where, json_option, topology_option, user, where
from pipeline.cli.shown import say, say_json


@click.command()
@click.argument("service")
@click.option("--by", default=user, show_default="the user", help="Who does it; kept as a notice.")
@click.option("--why", required=True, help="Why; kept as a notice.")
@json_option
@where(topology_option)
def command(service: str, by: str, why: str, as_json: bool, where: Where) -> None:
    """Have SERVICE go on that is paused, or held as too many records raised; and try again what its replicas hold.

    \b
    pipeline resume orders --why 'it was the data'

    Parked records stay parked; see pipeline parked redrive. Exit code 1: some worker did not answer, a replica still
    holds keys, or some partition is still paused.
    """
    told = Workers(where, service).ask(f"/v1/services/{quote(service, safe='')}/resume", body={"by": by, "why": why})
    left, _ = paused_now(where, service)
    told["paused"] = [f"{tp.topic}/{tp.partition}" for tp in left]
    if as_json:
        say_json(told)
    for each in () if as_json else told["workers"]:
        parts = ["goes on" if each["resumed"] else "was neither held nor paused"]
        parts += [f"{each['freed']} keys of replicas are folded on"] if each["freed"] else []
        parts += [f"{each['left']} keys of replicas still wait: {each['cause']}"] if each["left"] else []
        say(f"{each['service']} at {each['worker']}: {', '.join(parts)}")
    for each in () if as_json else told["unavailable"]:
        say(f"no answer: {each}", err=True)
    if left and not as_json:
        say(f"still paused, as no worker folds them just now: {', '.join(told['paused'])}; ask again", err=True)
    if told["unavailable"] or left or any(each["left"] for each in told["workers"]):
        sys.exit(1)

"""The project's worker as a candidate of the side-by-side harness, which says by the environment where everything is.

BOOTSTRAP, COMMAND_TOPIC, EVENT_TOPIC, CHANGELOG_TOPIC, STATE_DIR, GROUP, COMMIT_MS and SCHEMA_DIR; runs until SIGTERM.
`python -m benchmarks.peers.candidate` does what the contract asks for; with
`--all-features`, what the engine does by itself.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.peers.accounts import remembering, service
from benchmarks.peers.contract import bare_codecs
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.topic_settings import mend
from pipeline.adapters.kafka.topics import create_topics, partition_counts, setting_differences
from pipeline.engine.plan import ServicePlan
from pipeline.errors import SchemaError
from pipeline.model import Service
from pipeline.topology import Topology
from pipeline.worker.logs import log_to_stderr
from pipeline.worker.main import run_worker
from pipeline.worker.settings import Adapters, WorkerSettings

SCHEMAS = Path(__file__).with_name("schemas")


def topology(environment: Mapping[str, str], accounts: Service = service) -> Topology:
    """The accounts, on the topics and in the group that the environment names."""
    group = environment["GROUP"]
    names = {
        "accounts": group,
        "accounts.command": environment["COMMAND_TOPIC"],
        "accounts.event": environment["EVENT_TOPIC"],
        "accounts.state": environment["CHANGELOG_TOPIC"],
        "accounts.replies": f"{group}-answers",
        "accounts.accounts.command.queue": f"{group}-queue",
        "accounts.parked": f"{group}-parked",
        "accounts.positions": f"{group}-positions",
    }
    return Topology("accounts", {"accounts": accounts}, SCHEMAS, names)


def check_schemas(theirs: Path) -> None:
    """SchemaError where the contract is not, or no longer, the one that this was written for."""
    for kind in ("command", "event", "state"):
        ours = SCHEMAS / f"accounts.{kind}.avsc"
        if json.loads(ours.read_text()) != json.loads((theirs / f"{kind}.avsc").read_text()):
            raise SchemaError(f"{theirs / kind}.avsc is not {ours.name}; take it over and register it")


def main() -> None:
    """Runs the worker."""
    log_to_stderr("INFO")
    check_schemas(Path(os.environ["SCHEMA_DIR"]))
    chosen = remembering if "--all-features" in sys.argv else service
    accounts = topology(os.environ, chosen)
    bootstrap = os.environ["BOOTSTRAP"]
    client = admin(bootstrap)
    # The contract's topics are there, with the broker's own settings; what is left is the engine's own.
    partitions = partition_counts(client)[os.environ["COMMAND_TOPIC"]]
    plans = [ServicePlan(chosen, bare_codecs(SCHEMAS), accounts.names)]
    create_topics(client, plans, partitions, 1)
    mend(client, setting_differences(client, plans))
    settings = WorkerSettings(
        bootstrap=bootstrap,
        state_dir=Path(os.environ["STATE_DIR"]),
        slot=0,
        commit_interval_s=int(os.environ["COMMIT_MS"]) / 1000,
    )
    run_worker(accounts, settings, Adapters(codecs=lambda topology: bare_codecs(topology.schemas)))


if __name__ == "__main__":
    main()

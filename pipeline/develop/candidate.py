"""The process of a changed topology: `python -m pipeline.develop.candidate FD ORDER`.

It loads the topology, brings schemas and topics up to date, and says over the line FD that it is ready, or what is
wrong. Once asked to go on, when the services before it have ended, it runs with what it has loaded. So what is checked
is what runs, whatever is saved meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.adapters import descriptors
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.schemas.files import SECRET
from pipeline.adapters.kafka import admin, end_offsets
from pipeline.adapters.kafka.topics import check_counts, check_topics, create_topics, even_out, partition_counts
from pipeline.broker import local
from pipeline.develop.code.files import files_of_topology
from pipeline.develop.code.kept import Folded, kept_tables
from pipeline.develop.examples import first_calls
from pipeline.develop.line import Line
from pipeline.develop.schema_updates import (
    SchemasRefused,
    forget_uncommitted,
    published_schemas,
    schema_texts,
    update_schemas,
)
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.errors import LaneFatal, PipelineError, SchemaError, TopologyError
from pipeline.topology import Topology, load
from pipeline.worker.logs import log_to_stderr

log = logging.getLogger(__name__)

PARTITIONS, FEW_PARTITIONS = 4, 1
OURS = f"{Path(__file__).parents[1]}/"
IMPORTING = f"{os.sep}importlib{os.sep}"
FRAMES = 3  # of an author's code that are shown of an error


@dataclass(frozen=True, slots=True)
class Order:
    """What a candidate is to load and to run. `left`: schemas written by hand, see `update_schemas`."""

    topology: str
    schemas: str | None
    roots: Sequence[str]
    bootstrap: str
    home: str
    port: int
    project: Sequence[str] = ()  # its directories
    is_local: bool = True  # the broker is that of the home
    fresh: bool = False
    left: Sequence[str] | None = None
    databases: Sequence[str] = ()
    log_level: str = "WARNING"

    @property
    def kafka(self) -> str:
        """Which Kafka it is, whatever port the local one has."""
        return "local" if self.is_local else self.bootstrap

    @classmethod
    def read(cls, text: str) -> Order:
        """Return the order of that text."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(asdict(self))


def main(line: Line, order: Order) -> int:
    """Check, wait, run. Return the exit code."""
    log_to_stderr(order.log_level)
    if order.log_level == "WARNING":  # clients of a broker that has just started say that they try again
        logging.getLogger("pipeline.kafka").setLevel(logging.ERROR)
    descriptors.raise_limit()
    try:
        ready, topology, noted = _prepared(order)
        run = _runner(topology, order, line)
    except PipelineError as error:
        line.say(_refusal(error))
        return 2
    except BaseException:
        line.say({"refused": traceback.format_exc().strip(), "by_save": True})
        return 1
    line.say(ready)
    if not line.hear():
        return 0
    try:
        noted()
        run()
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, LaneFatal) else 2
    return 0


def _prepared(order: Order) -> tuple[dict[str, Any], Topology, Callable[[], None]]:
    """Load the topology, and bring schemas and topics up to date.

    Return what has been done, the topology, and what notes how it folds: to be called once it does.
    """
    topology = load(
        order.topology, Path(order.schemas) if order.schemas else None, [Path(root) for root in order.roots]
    )
    forgot = forget_uncommitted(topology) if order.fresh else []
    update = update_schemas(topology, order.left, published_schemas(topology, order.bootstrap))
    plans = [ServicePlan(service, codecs(topology.schemas), topology.names, SECRET) for service in topology.chosen(())]
    client = admin(order.bootstrap)
    copies = 1 if order.is_local else -1  # what the broker gives by default
    created = create_topics(client, plans, _partitions(partition_counts(client), plans), copies)
    even_out(client, plans)
    for plan in plans:
        check_topics(client, plan, topology.name)
        check_counts(order.bootstrap, client, plan)
    folded, tables = Folded(Path(order.home), order.kafka), kept_tables(topology, order.project)
    done = {
        "services": sorted(topology.services),
        "schemas": str(topology.schemas),
        "wrote": update.wrote,
        "registered": update.registered,
        "left": update.left,
        "questions": update.questions,
        "forgot": forgot,
        "created": created,
        "changed": [each.as_json() for each in folded.changed(tables, partial(_with_records, order.bootstrap))],
        "texts": schema_texts(topology.schemas),
        "files": sorted(files_of_topology(order.project)),
        "try": first_calls(topology),
    }
    return done, topology, partial(folded.note, tables)


def _with_records(bootstrap: str, topics: Sequence[str]) -> dict[str, bool]:
    """Return whether topics have, or have had, records."""
    client = admin(bootstrap)
    counts = partition_counts(client)
    ends = end_offsets(client, [TP(topic, n) for topic in topics for n in range(counts.get(topic, 0))])
    return {topic: any(end for tp, end in ends.items() if tp.topic == topic) for topic in topics}


def _partitions(there: Mapping[str, int], plans: Sequence[ServicePlan]) -> int:
    """Return how many partitions new topics get: as many as the services' topics have, for those that have some."""
    own = [there[topic] for plan in plans for topic in plan.source_topics if topic in there]
    return max(own, default=FEW_PARTITIONS if local.few_files() else PARTITIONS)


def _refusal(error: PipelineError) -> dict[str, Any]:
    """Return what is wrong, for the author: the text, and the last lines of the author's own code."""
    by_save = isinstance(error, TopologyError | SchemaError)
    told: dict[str, Any] = {"refused": str(error), "by_save": by_save}
    if isinstance(error, SchemasRefused):
        return told | {"schemas": True, "committed": error.committed, "published": error.published}
    cause = error.__cause__ or error
    frames = traceback.extract_tb(cause.__traceback__)
    own = [each for each in frames if not (each.filename.startswith((OURS, "<")) or IMPORTING in each.filename)]
    shown = traceback.StackSummary.from_list(own[-FRAMES:]).format() if by_save else []
    if shown or isinstance(cause, SyntaxError):
        shown += traceback.format_exception_only(cause) if error.__cause__ else []
    return told | {"trace": "".join(shown).rstrip()}


def _runner(topology: Topology, order: Order, line: Line) -> Callable[[], None]:
    """Return what runs the services. What it needs is imported now, while nothing waits for it."""
    from pipeline.worker.databases import parse_databases, without_tables
    from pipeline.worker.main import run_worker
    from pipeline.worker.settings import WorkerSettings

    told = parse_databases(order.databases)
    if wrong := without_tables(told, topology):
        log.warning("--database: %s", wrong)
    settings = WorkerSettings(
        bootstrap=order.bootstrap,
        state_dir=Path(order.home) / "state",
        node=platform.node(),
        slot=0,
        port=order.port,
        databases=told,
        log_level=order.log_level,
    )
    return partial(run_worker, topology, settings, serving=lambda url: line.say({"serving": url}))


if __name__ == "__main__":
    code = 1
    try:
        os.set_inheritable(int(sys.argv[1]), False)
        code = main(Line(socket.socket(fileno=int(sys.argv[1]))), Order.read(sys.argv[2]))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)  # native clients that have lost their broker may never stop

"""How many open files a worker needs, and how its services are shared out if one process may not have so many.

Upper figures, counted in /proc/PID/fd of the shop's worker (docs/architecture.md). Partitions make no difference:
all tables of a service are in one database.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.adapters import descriptors
from pipeline.adapters.rocksdb.database import FILES_MAX, FILES_MIN
from pipeline.errors import OutOfDescriptors
from pipeline.model import Database, Service
from pipeline.topology import Topology

log = logging.getLogger(__name__)

PROCESS = 30  # the process itself, HTTP with some connections, logs
IDLE = 16  # of these, what it has in any case
CLIENT, BROKER = 5, 3  # a client of Kafka: by itself, and for each broker that it is connected to
DATABASE, DATABASE_IDLE = 20, 7  # as few as RocksDB keeps open, and those before it holds much
SQL = 12  # a pool of connections
SPARE = 8  # left alone


def _clients(service: Service) -> int:
    """Group consumer, producer, log reader; and the reader of histories."""
    return 3 + _keeps_history(service)


def _keeps_history(service: Service) -> bool:
    return any(aggregate.history for aggregate in service.owned)


def _databases(service: Service) -> int:
    return 1 + _keeps_history(service)


def needed(services: Sequence[Service], all_services: int, brokers: int, database: int = DATABASE) -> int:
    """The open files of a process that runs these of all the services of its topology.

    Readers ask for what the group of any service has committed, each by a client of its own; two more are for
    questions to the cluster and for barriers. `database`: open files of one RocksDB.
    """
    client = CLIENT + BROKER * brokers
    return PROCESS + (all_services + 2) * client + sum(_of(service, client, database) for service in services)


def _of(service: Service, client: int, database: int) -> int:
    sql = any(projection.database is not Database.ROCKSDB for projection in service.projections)
    return 1 + _clients(service) * client + _databases(service) * database + sql * SQL


def share_out(services: Sequence[Service], all_services: int, brokers: int, limit: int) -> list[list[str]]:
    """Return the names of the services that each process runs: as few processes as have room for them.

    A service that is too large for any has one to itself. Raises OutOfDescriptors if it could not even start.
    """
    client = CLIENT + BROKER * brokers
    names = {service.name for service in services}
    units: dict[str, list[Service]] = {}  # later versions of its projections are chosen by a service's name, too
    for service in services:
        units.setdefault(service.part_of if service.part_of in names else service.name, []).append(service)
    parts: list[list[str]] = []
    last: list[Service] = []
    for name, unit in units.items():
        least = IDLE + client + sum(_of(service, client, DATABASE_IDLE) for service in unit)
        if least > limit:
            need = needed(unit, all_services, brokers) + SPARE
            raise OutOfDescriptors(f"service {name!r} needs {need:,} open files; {descriptors.cure(need)}")
        if parts and needed([*last, *unit], all_services, brokers) + SPARE <= limit:
            parts[-1].append(name)
            last += unit
        else:
            parts.append([name])
            last = list(unit)
    return parts


def parts_of(topology: Topology, names: Sequence[str], bootstrap: str) -> list[list[str]]:
    """What `share_out` makes of the services of those names; says so, with the figures, if it takes several."""
    services, brokers, limit = topology.chosen(tuple(names)), bootstrap.count(",") + 1, descriptors.limit()
    parts = share_out(services, len(topology.services), brokers, limit)
    if len(parts) > 1:
        need = needed(services, len(topology.services), brokers) + SPARE
        log.warning(
            "%d services in one process need up to %s open files: they run in %d processes; for one, %s",
            *(len(services), f"{need:,}", len(parts)),
            descriptors.cure(need),
        )
    return parts


def options_of(part: Sequence[str], port: int) -> list[str]:
    """Return the options of a process that runs only these services."""
    return [*(word for name in part for word in ("--service", name)), "--port", str(port)]


def files_for_each_database(services: Sequence[Service], all_services: int, brokers: int) -> int:
    """How many files each RocksDB of this process may keep open. Says what is needed, and warns if that is too much.

    What RocksDB keeps open it need not open again for a read: it gets what the others leave.
    """
    limit, need = descriptors.limit(), needed(services, all_services, brokers)
    if need > limit:
        log.warning("up to %s open files are needed; %s", f"{need:,}", descriptors.cure(need))
    else:
        log.info("up to %s open files are needed, %s are allowed", f"{need:,}", f"{limit:,}")
    left = (limit - SPARE - need) // sum(map(_databases, services))
    return max(FILES_MIN, min(FILES_MAX, FILES_MIN + left))

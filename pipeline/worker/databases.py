"""The databases of services' tables, from the topology's declarations and the worker's options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pipeline.adapters.avro.served import open_registry
from pipeline.engine.plan import ServicePlan
from pipeline.errors import DatabaseUnusable
from pipeline.model import Database
from pipeline.topology import Topology

if TYPE_CHECKING:
    from pipeline.adapters.sql import SqlStores


def databases(
    plans: Sequence[ServicePlan], told: Mapping[str, str], state_dir: Path, topology: Topology
) -> dict[str, SqlStores]:
    """Open the database of each service that keeps tables in one; a later version of a projection is in its service's.

    `told`: service -> URL. Raises DatabaseUnusable.
    """
    found = {}
    for plan in plans:
        name, declared = plan.service.name, plan.databases()
        service, part = (plan.service.part_of, name) if plan.service.part_of else (name, "")
        if declared:
            from pipeline.adapters.sql import SqlDatabase, SqlStores, database_url  # slow, and few need it

            text = told.get(service)
            if text is None and Database.POSTGRESQL not in declared:
                text = f"sqlite:///{(state_dir / service / f'{service}.sqlite').absolute()}"
            url = database_url(text) if text else None
            if url is None or (url.drivername == "sqlite" and Database.POSTGRESQL in declared):
                raise DatabaseUnusable(
                    f"service {service!r} keeps tables in PostgreSQL; say where with --database {service}="
                    "postgresql://user@host/name"
                )
            found[name] = SqlStores(SqlDatabase(service, url), open_registry(topology.schemas, topology.names), part)
    return found


def parse_databases(texts: Sequence[str]) -> dict[str, str]:
    """`SERVICE=URL` of each. Raises DatabaseUnusable."""
    told = {}
    for text in texts:
        service, equals, url = text.partition("=")
        if not equals:
            raise DatabaseUnusable("a database without a name: say whose it is, --database SERVICE=URL")
        if service in told:
            raise DatabaseUnusable(f"two databases are given for service {service!r}; give one")
        told[service] = url
    return told


def passwords_of(urls: Iterable[str]) -> list[str]:
    """The passwords that these URLs hold, as they stand there and as they are meant."""
    found = [urlsplit(url).password or "" for url in urls]
    return [text for password in found for text in (password, unquote(password))]


def without_tables(told: Iterable[str], topology: Topology) -> str | None:
    """What is wrong with the first of these names that is no service with tables in a database; None if none is."""
    keeping = {
        service.part_of or service.name
        for service in topology.services.values()
        if any(projection.database is not Database.ROCKSDB for projection in service.projections)
    }
    for name in told:
        if name not in keeping:
            what = "keeps no tables in a database" if name in topology.services else f"is not in {topology.name}"
            return f"service {name!r} {what}; those that do: {', '.join(sorted(keeping)) or 'none'}"
    return None

"""The databases of services' tables, from the topology's declarations and the worker's options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.plan import ServicePlan
from pipeline.errors import DatabaseUnusable
from pipeline.model import Database

if TYPE_CHECKING:
    from pipeline.adapters.sql import SqlStores


def databases(
    plans: Sequence[ServicePlan], told: Mapping[str, str], state_dir: Path, schemas: Path
) -> dict[str, SqlStores]:
    """Open the database of each service that keeps tables in one.

    `told`: service -> URL. Raises DatabaseUnusable.
    """
    found = {}
    for plan in plans:
        service, declared = plan.service.name, plan.databases()
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
            found[service] = SqlStores(SqlDatabase(service, url), Registry(schemas))
    return found


def parse_databases(texts: Sequence[str]) -> dict[str, str]:
    """`SERVICE=URL` of each. Raises DatabaseUnusable."""
    told = {}
    for text in texts:
        service, equals, url = text.partition("=")
        if not equals:
            raise DatabaseUnusable("a database without a name: say whose it is, --database SERVICE=URL")
        told[service] = url
    return told

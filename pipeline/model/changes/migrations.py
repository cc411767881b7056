"""Old states, and the functions that make states of today of them: declared beside the aggregate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.errors import TopologyError
from pipeline.model.context import asks_context

Migrations = Mapping[type, Callable[[Any], Any]]  # by the class of the old state


def check_migrations(where: str, state: type, migrate: Migrations) -> None:
    """Raise TopologyError if old states are declared so that they cannot become states of today."""
    for cls, function in migrate.items():
        if not isinstance(cls, type):
            raise TopologyError(f"{where}: migrate has {cls!r:.100}; give the class of the old state there")
        if cls is state:
            raise TopologyError(f"{where}: {cls.__name__} is its state of today; leave it out of migrate")
        asks_context(function, f"{where}: the migration of {cls.__name__}", ["the old state"], None)

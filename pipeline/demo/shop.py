"""The shop's topology, and the modules whose messages the demo sends."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pipeline.demo

SHOP = "pipeline.demo.topologies"  # the shop, whatever `topologies` the current directory has


def _name() -> str:
    """Return `topologies` if that is the shop, as in the repository, so that its message classes exist only once."""
    try:
        spec = find_spec("topologies")
    except (ImportError, ValueError):
        spec = None
    found = (spec and spec.submodule_search_locations) or ()
    return "topologies" if any(_is_the_shop(Path(place)) for place in found) else SHOP


def _is_the_shop(folder: Path) -> bool:
    return folder.resolve() in [(Path(place) / "topologies").resolve() for place in pipeline.demo.__path__]


NAME = _name()


def topology_option() -> str:
    """Return the option with which `pipeline query` reads the shop's tables; empty if `topologies` is the shop."""
    return "" if _is_the_shop(Path("topologies")) else f" --topology {SHOP}"


if TYPE_CHECKING:
    from topologies import inventory, orders, payments, users
else:
    inventory, orders, payments, users = (
        import_module(f"{NAME}.{name}") for name in ("inventory", "orders", "payments", "users")
    )

__all__ = ["NAME", "SHOP", "inventory", "orders", "payments", "users"]

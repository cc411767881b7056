"""The trees service: messages that contain themselves, in an aggregate and in an SQL table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from pipeline import Aggregate, Database, Projection, Service
from tests.typed.accounts import Money


@dataclass(frozen=True, slots=True)
class Branch:
    name: str
    price: Money
    grown: date | None = None
    branches: tuple[Branch, ...] = ()


@dataclass(frozen=True, slots=True)
class Plant:
    tree: Branch


@dataclass(frozen=True, slots=True)
class Planted:
    tree: Branch


@dataclass(frozen=True, slots=True)
class Garden:
    trees: tuple[Branch, ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """A row that contains itself, with columns of the same types."""

    name: str
    grown: date | None = None
    newest: Branch | None = None
    earlier: Tree | None = None


def decide(command: Plant, garden: Garden) -> list[Planted]:
    return [Planted(command.tree)]


def evolve(garden: Garden, event: Planted) -> Garden:
    return replace(garden, trees=(*garden.trees, event.tree))


def plant(row: Tree, event: Planted) -> Tree:
    return Tree(event.tree.name, event.tree.grown, event.tree, row if row.newest else None)


gardens = Aggregate("gardens", Plant, Planted, Garden(), decide, evolve)
trees = Projection("trees", (gardens.events,), Tree(""), plant, database=Database.SQLITE)
service = Service("trees", (gardens,), projections=(trees,))

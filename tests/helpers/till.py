"""A project of one service in a directory of its own, written as an author does, and changed by replacing text."""

from __future__ import annotations

from pathlib import Path

TILL = '''"""A till: takes money, and gives no more than it has."""

from dataclasses import dataclass

from pipeline import Aggregate, Rejected, Service


@dataclass(frozen=True, slots=True)
class PutIn:
    amount: int


@dataclass(frozen=True, slots=True)
class TakeOut:
    amount: int


@dataclass(frozen=True, slots=True)
class Moved:
    amount: int


@dataclass(frozen=True, slots=True)
class Till:
    holds: int = 0


def decide(command, till):
    match command:
        case PutIn(amount):
            return [Moved(amount)]
        case TakeOut(amount) if amount <= till.holds:
            return [Moved(-amount)]
        case TakeOut():
            return Rejected("too_little")


def evolve(till, event):
    return Till(till.holds + event.amount)


tills = Aggregate("tills", command=PutIn | TakeOut, event=Moved, initial=Till(), decide=decide, evolve=evolve)
service = Service("tills", aggregates=[tills])
'''


def write_till(project: Path) -> Path:
    """Write a project whose package is `till`; return the service's file."""
    package = project / "till"
    package.mkdir(parents=True)
    (project / "pipeline.toml").write_text('topology = "till"\n')
    (package / "__init__.py").write_text('"""Tills."""\n')
    (package / "tills.py").write_text(TILL)
    return package / "tills.py"

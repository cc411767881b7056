"""What an author says of a message class beside its types: of a field in `Annotated[…]`, of the class by `renamed`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

C = TypeVar("C", bound=type)


class Precision(NamedTuple):
    """How exact a Decimal is, as in `Annotated[Decimal, Precision(18, 2)]`: `scale` digits are after the point."""

    digits: int
    scale: int


class Renamed:
    """The names that a field had before: `Annotated[str, Renamed("surname")]`. Records of then stay readable."""

    def __init__(self, *before: str) -> None:
        self.before = before

    def __repr__(self) -> str:
        return f"Renamed({', '.join(map(repr, self.before))})"


def renamed(*before: str) -> Callable[[C], C]:
    """Say the names that a message class had before: `@renamed("OrderMade")`. Records of then stay readable.

    It stands above `@dataclass`, which may make the class anew.
    """

    def note(cls: C) -> C:
        cls.__renamed__ = before  # type: ignore[attr-defined]
        return cls

    return note

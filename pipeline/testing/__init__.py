"""Tests of a topology: given events, when a command comes, then these events; or all of it in a simulated world."""

from typing import TYPE_CHECKING, Any

from pipeline.testing.author_checks import AuthorError
from pipeline.testing.given import Given, When, given
from pipeline.testing.saga import GivenSaga, accepted, by_hand, given_saga, rejected

if TYPE_CHECKING:
    from pipeline.testing.simulation import Simulation, TestDriver

__all__ = [
    "AuthorError",
    "Given",
    "GivenSaga",
    "Simulation",
    "TestDriver",
    "When",
    "accepted",
    "by_hand",
    "given",
    "given_saga",
    "rejected",
]


def __getattr__(name: str) -> Any:
    """Import the simulated world on first use: it needs the extra `testing`."""
    if name not in ("Simulation", "TestDriver"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from pipeline.testing import simulation
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs {error.name}: pip install 'kafka-pipeline[testing]'") from error
    return getattr(simulation, name)

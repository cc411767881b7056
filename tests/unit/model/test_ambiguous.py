"""A command class that two aggregates of a service take: a reaction could not say which one it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from pipeline import Aggregate, Reaction, Send, Service, Source
from pipeline.engine.steps.react import ReactStep
from pipeline.engine.steps.step import Output
from pipeline.errors import TopologyError
from pipeline.flow import event_to_command
from pipeline.model import EventMessage


@dataclass(frozen=True, slots=True)
class Deposit:
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Close:
    reason: str = ""


@dataclass(frozen=True, slots=True)
class State:
    balance: int = 0


def account(name: str, command: object, **more: Any) -> Aggregate[Any, Any, Any]:
    return Aggregate(name, command, Deposit, State(), lambda c, s: [], lambda s, e: s, **more)


WAGES = Reaction("wages", Source("payroll.event", Deposit), lambda key, event: [Send(key, event)])


@pytest.mark.parametrize(
    "commands", [(Deposit, Deposit), (Deposit | Close, Deposit), (Close | Deposit, Deposit | Close)]
)
def test_it_is_refused_with_class_aggregates_reaction_and_cure(commands: tuple[object, object]) -> None:
    two = [account(name, command) for name, command in zip(("checking", "savings"), commands, strict=True)]
    with pytest.raises(TopologyError) as refused:
        Service("bank", aggregates=two, reactions=[WAGES])
    for word in ("'bank'", "'checking' and 'savings'", "'wages'", "a class of its own"):
        assert word in str(refused.value)
    assert any(cls in str(refused.value) for cls in ("Deposit", "Close"))


def test_without_a_reaction_senders_name_the_aggregate() -> None:
    service = Service("bank", aggregates=[account("checking", Deposit), account("savings", Deposit)])
    assert service.takers == {Deposit: ["checking", "savings"]}


def test_a_class_of_one_aggregate_is_not_ambiguous() -> None:
    Service("bank", aggregates=[account("checking", Deposit | Deposit), account("savings", Close)], reactions=[WAGES])


def test_a_reaction_that_sends_what_several_take_all_the_same_raises() -> None:
    """Only classes of the engine itself can get so far."""
    step = ReactStep(WAGES, {}, {Deposit: ["checking", "savings"]}, Output(_Silent(), None))  # type: ignore[arg-type]
    event = EventMessage(**dict.fromkeys(EventMessage._fields, 0) | {"correlation_id": "", "body": Deposit(1)})
    (sent,) = event_to_command(WAGES, "anna", event)
    with pytest.raises(TopologyError, match="checking, savings all take"):
        step._addressed(*sent)


class _Silent:
    produce = partitions = staticmethod(lambda *_: 0)

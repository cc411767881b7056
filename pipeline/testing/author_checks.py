"""Finds what an author of a topology says by mistake, and the engine would not notice or would tell less clearly.

`given` and the TestDriver call a topology's functions through these checks. A worker does not: they copy each state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from copy import deepcopy
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

from pipeline.flow.functions.returned import is_record
from pipeline.model import Aggregate, Effect, Projection, Reaction, Rejected, Replica, Send, Service
from pipeline.model.fields import alternatives
from pipeline.model.reservation import decide_reservation

T = TypeVar("T", Projection[Any, Any], Replica[Any, Any])


class AuthorError(AssertionError):
    """A function of the topology does what it must not do; says which, on what class, and the cure."""


def checked(service: Service) -> Service:
    """Return a service whose aggregates, reactions, projections and replicas are checked whenever they are called."""
    replicas = {replica.name: checked_table(replica) for replica in service.replicas}
    aggregates = [
        replace(checked_aggregate(each), reads=tuple(replicas[replica.name] for replica in each.replicas))
        if each.decide is not decide_reservation
        else each
        for each in service.aggregates
    ]
    projections = [checked_route(checked_table(projection)) for projection in service.projections]
    reactions = [checked_reaction(reaction, service.takers) for reaction in service.reactions]
    return replace(
        service, aggregates=aggregates, reactions=reactions, projections=projections, replicas=list(replicas.values())
    )


def checked_aggregate(aggregate: Aggregate[Any, Any, Any]) -> Aggregate[Any, Any, Any]:
    """Return an aggregate whose `decide` and `evolve` raise AuthorError if they do what they must not do."""
    events = tuple(each for each in alternatives(aggregate.event) if isinstance(each, type))
    states = type(aggregate.initial)

    @wraps(aggregate.decide)
    def decide(command: Any, state: Any, *copies: Any, **context: Any) -> Any:
        decision = _unchanged(aggregate.decide, "state", 1, command, state, *copies, **context)
        where = f"{_name(aggregate.decide)}, decide of {aggregate.name!r}, on a {type(command).__name__}"
        if isinstance(decision, Rejected):
            return decision
        decision = _list(where, decision, "events, or a Rejected")
        for event in decision:
            if events and not isinstance(event, (*events, Effect)):
                names = ", ".join(each.__name__ for each in events)
                raise AuthorError(
                    f"{where}, returned a {type(event).__name__}, which is no event of it: it declares {names}"
                )
        return decision

    @wraps(aggregate.evolve)
    def evolve(state: Any, event: Any, **context: Any) -> Any:
        after = _unchanged(aggregate.evolve, "state", 0, state, event, **context)
        if not isinstance(after, states):
            raise AuthorError(
                f"{_name(aggregate.evolve)}, evolve of {aggregate.name!r}, on a {type(event).__name__}, returned "
                f"{_a(after)}: is a case missing? Return the next {states.__name__}"
            )
        return after

    return replace(aggregate, decide=decide, evolve=evolve)


def checked_table(table: T) -> T:
    """Return a projection or replica whose `evolve` raises AuthorError if it does what it must not do."""
    rows = type(table.initial)

    @wraps(table.evolve)
    def evolve(row: Any, message: Any, **context: Any) -> Any:
        after = _unchanged(table.evolve, "row", 0, row, message, **context)
        if after is not None and not isinstance(after, rows):
            raise AuthorError(
                f"{_name(table.evolve)}, evolve of {table.name!r}, on a {type(message).__name__}, returned "
                f"{_a(after)}: return the next {rows.__name__}, or None to delete the row"
            )
        return after

    return replace(table, evolve=evolve)


def checked_route(projection: Projection[Any, Any]) -> Projection[Any, Any]:
    """Return a projection whose `route` raises AuthorError if it gives no pairs of key and message."""
    if projection.route is None:
        return projection
    function: Callable[..., Any] = projection.route
    classes = tuple(each for each in alternatives(projection.by_key) if isinstance(each, type))

    @wraps(function)
    def route(key: str, event: Any, **context: Any) -> Any:
        where = f"{_name(function)}, route of {projection.name!r}, on a {type(event).__name__}"
        pairs = _list(where, function(key, event, **context), "pairs of row key and message")
        for pair in pairs:
            if not isinstance(pair, tuple) or len(pair) != 2:  # a key that is no text, the step refuses
                raise AuthorError(f"{where}, gave {pair!r:.100}: give pairs of row key and message")
            if classes and not isinstance(pair[1], classes):
                names = ", ".join(each.__name__ for each in classes)
                raise AuthorError(f"{where}, gave {_a(pair[1])}, which is no message of it: by_key declares {names}")
        return pairs

    return replace(projection, route=route)


def checked_reaction(reaction: Reaction, takers: Mapping[type, Sequence[str]]) -> Reaction:
    """Return a reaction whose `react` raises AuthorError if it gives no Sends, or commands that no aggregate takes."""
    function: Callable[..., Any] = reaction.react

    @wraps(function)
    def react(key: str, event: Any, **context: Any) -> Any:
        where = f"{_name(function)}, react of {reaction.name!r}, on a {type(event).__name__}"
        sends = _list(where, function(key, event, **context), "Sends")
        for send in sends:
            if not isinstance(send, Send):
                raise AuthorError(f"{where}, gave {_a(send)}: give Sends only")
            if type(send.command) not in takers:
                names = ", ".join(cls.__name__ for cls in takers)
                raise AuthorError(f"{where}, sends {_a(send.command)}, which no aggregate takes: they take {names}")
        return sends

    return replace(reaction, react=react)


def check_command(aggregate: Aggregate[Any, Any, Any], command: object) -> None:
    """Raise AuthorError if an aggregate does not take commands of that class."""
    classes = tuple(each for each in alternatives(aggregate.command) if isinstance(each, type))
    if classes and not isinstance(command, classes):
        names = ", ".join(each.__name__ for each in classes)
        raise AuthorError(f"{_a(command)} is no command of {aggregate.name!r}: it declares {names}")


def _unchanged(function: Callable[..., Any], what: str, number: int, *arguments: Any, **context: Any) -> Any:
    """Call `function`, and raise AuthorError if it changes that argument in place."""
    before = deepcopy(arguments[number])
    result = function(*arguments, **context)
    if arguments[number] != before:
        raise AuthorError(
            f"{_name(function)} changed its {what} in place, a {type(before).__name__}: it was {before!r}, and is "
            f"{arguments[number]!r}. Others share it, under other keys, too; return a new one (dataclasses.replace)"
        )
    return result


def _list(where: str, returned: Any, of: str) -> list[Any]:
    """Return what a function has returned, or yielded, as a list. Raises AuthorError."""
    if returned is None:
        raise AuthorError(f"{where}, returned None: is a case missing? Return [] if nothing happens")
    if isinstance(returned, str | bytes | Set | Mapping) or not isinstance(returned, Iterable) or is_record(returned):
        raise AuthorError(f"{where}, returned {_a(returned)}: return a list of {of}")
    return list(returned)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))


def _a(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"

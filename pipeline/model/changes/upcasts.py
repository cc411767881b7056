"""Old events, and the functions that make events of today of them: declared beside the aggregate, or on a Source."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Union, get_args, get_origin, get_type_hints

from pipeline.errors import TopologyError, UpcastFailed
from pipeline.model.context import asks_context
from pipeline.model.records.messages import EventMessage

Upcasts = Mapping[type, Callable[[Any], Any]]  # by the class of the old event
NONE: Upcasts = types.MappingProxyType({})
SEQUENCES: Sequence[Any] = (list, tuple, Sequence, Iterable, Iterator)


@dataclass(frozen=True, slots=True)
class Upcast:
    """The body of an old event of which its upcaster makes not one event but none or several, or on which it fails.

    So a record stays one message, with one version; what folds it folds the `events` in their order. `failed`: why they
    cannot be had; `error`: what was raised, if anything was.
    """

    old: Any
    events: tuple[Any, ...] = ()
    failed: str | None = None
    error: BaseException | None = None

    def of(self, message: EventMessage) -> list[EventMessage]:
        """Return a message for each event. Raises UpcastFailed."""
        if self.failed is not None:
            raise UpcastFailed(self.failed) from self.error
        return [message._replace(body=event) for event in self.events]


def today(message: EventMessage) -> list[EventMessage]:
    """Return the messages of which a message consists: itself, unless it was upcast to none or several.

    Raises UpcastFailed.
    """
    return message.body.of(message) if type(message.body) is Upcast else [message]


def classes_of(event: object) -> tuple[Any, ...]:
    """Return the classes of a union of event classes; a single class is a union of one."""
    if get_origin(event) not in (Union, types.UnionType):
        return (event,)
    return tuple(dict.fromkeys(cls for member in get_args(event) for cls in classes_of(member)))


def with_old(event: object, upcasts: Upcasts) -> Any:
    """Return the union of the present events and the old ones: of what stands on the topic."""
    return Union[(event, *upcasts)] if upcasts else event  # of classes that are known only now


def check_upcasts(where: str, event: object, upcasts: Upcasts) -> None:
    """Raise TopologyError if old events are declared so that they cannot become events of today."""
    present = classes_of(event)
    leads_to: dict[type, set[type]] = {}
    for cls, upcaster in upcasts.items():
        if not isinstance(cls, type):
            raise TopologyError(f"{where}: upcasts has {cls!r:.100}; give the class of the old event there")
        if cls in present:
            raise TopologyError(
                f"{where}: {cls.__name__} is among its events and among its upcasts; leave a class that is kept only "
                "for old records out of `event`"
            )
        asks_context(upcaster, f"{where}: the upcaster of {cls.__name__}", ["the old event"], None)
        leads_to[cls] = set()
        for result in told_results(upcaster):
            meant = [each for each in (*present, *upcasts) if result in getattr(each, "__mro__", ())]
            if not meant:
                why = "neither one of its events nor an old one with an upcaster of its own; add it to one of both"
                if result is type(None):
                    why = "no event; to drop the old one, return ()"
                raise TopologyError(
                    f"{where}: the upcaster of {cls.__name__} may return {result.__name__}, which is {why}"
                )
            leads_to[cls].update({result} & upcasts.keys())
    try:
        TopologicalSorter(leads_to).prepare()
    except CycleError as error:
        circle = " → ".join(cls.__name__ for cls in reversed(error.args[1]))
        raise TopologyError(
            f"{where}: the upcasters go round in a circle: {circle}; let one give today's event"
        ) from None


def told_results(upcaster: Callable[[Any], Any]) -> Iterator[Any]:
    """Yield the classes that an upcaster says it returns; none if it says nothing that can be understood here."""
    try:
        told = get_type_hints(upcaster).get("return", Any)
    except (NameError, TypeError, AttributeError):  # of names that only a type checker knows
        return
    yield from _results(told)


def _results(told: Any) -> Iterator[Any]:
    for each in classes_of(told):
        if get_origin(each) in SEQUENCES:
            for item in get_args(each):
                yield from _results(item)
        elif each not in (Any, Ellipsis, object) and isinstance(each, type) and each not in (list, tuple):
            yield each

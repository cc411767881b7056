"""old event -> events of today: apply the upcasters of a topic to what was read of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from pipeline.errors import EncodeError, UpcastFailed
from pipeline.flow.functions.raised import is_topologys
from pipeline.flow.functions.returned import is_record, returned_list
from pipeline.model.changes.upcasts import Upcast, Upcasts, classes_of
from pipeline.model.records.messages import EventMessage

M = TypeVar("M", EventMessage, None)


class Upcasting(Protocol):
    """Makes events of today of the old ones in what was decoded; None stays None."""

    def __call__(self, message: M, /) -> M: ...


def as_given(event: Any) -> Any:
    """Return the event itself: for where there is no schema that it has to fit."""
    return event


def upcasting(topic: str, event: object, upcasts: Upcasts, fit: Callable[[Any], Any] = as_given) -> Upcasting:
    """Return what makes events of today of the old ones in a message, along the chain of their upcasters.

    One event takes the place of the old one; several, none, or a failure stand there as an Upcast, so that a message
    which cannot be upcast is parked or held where it is folded, like one whose fold raises. `event`: the classes of
    today. `fit`: makes of an event what is read back once it is stored, such as a decimal with all its places; raises
    EncodeError.
    """
    present = {*classes_of(event)}

    def upcast(message: M) -> M:
        if message is None or type(message.body) not in upcasts:
            return message
        old = message.body
        try:
            events = tuple(_events(old, 0))
        except UpcastFailed as error:
            return message._replace(body=Upcast(old, failed=str(error), error=error.__cause__))
        except BaseException as error:
            if not is_topologys(error):
                raise
            why = f"{_upcaster(old)} raised {type(error).__name__}: {error}"
            return message._replace(body=Upcast(old, failed=why, error=error))
        return message._replace(body=events[0] if len(events) == 1 else Upcast(old, events))

    def _upcaster(old: Any) -> str:
        return f"the upcaster of {type(old).__name__} on {topic}"

    def _events(old: Any, steps: int) -> Iterator[Any]:
        if steps == len(upcasts):
            raise UpcastFailed(f"{_upcaster(old)} gives old events in a circle; let one give an event of today")
        returned = upcasts[type(old)](old)
        if is_record(returned):
            returned = (returned,)
        for each in returned_list("it", old, returned, "events, which may be empty"):
            if type(each) in upcasts:
                yield from _events(each, steps + 1)
            elif type(each) in present:
                try:
                    yield fit(each)
                except EncodeError as error:
                    raise UpcastFailed(f"{_upcaster(old)} gave what cannot be stored: {error}") from error
            else:
                raise UpcastFailed(f"{_upcaster(old)} gave {each!r:.100}, which is no event of today")

    return upcast

"""The named schemas of a document, each in one place of it: of message classes, and of what many operations share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

from pipeline.adapters.avro.binding import field_hints, is_message
from pipeline.model import Service
from pipeline.model.fields import alternatives
from pipeline.server.schemas.json_schema import Json, Shape, record
from pipeline.topology import Topology

SCHEMAS = "#/components/schemas"
SHARED = {"Parked", "Pending", "Problem", "Rejected", "Standing"}  # schemas of every document


class Named(NamedTuple):
    """A schema that is referred to by this name. It may contain others, but not itself."""

    name: str
    schema: Json


class Names:
    """The names of the schemas of a topology's classes. They do not depend on what else the document has.

    A class has its own name; where several have the same, each has that of the service before it that declares it. A
    message, which is a command or event of an aggregate, says its name as `type`: of one that is also inside others
    without saying it, that other schema is `<name>_plain`. Of any other class, the one that says it is `<name>_named`.
    """

    def __init__(self, topology: Topology) -> None:
        self._services: dict[Any, str] = {}  # class -> the first service that declares it
        self._tagged: set[Any] = set()  # classes that are inside messages
        self._messages: set[Any] = set()
        for service in topology.services.values():
            messages, others = _messages(service), [type(part.initial) for part in _parts(service)]
            self._messages.update(messages)
            self._tagged.update(_inside(messages))
            for cls in _inside([*messages, *others]):
                self._services.setdefault(cls, service.name)
        found = Counter(cls.__name__ for cls in self._services)
        taken: set[str] = set()
        self._names: dict[Any, str] = {}
        for cls, service_name in self._services.items():
            is_alone = found[cls.__name__] == 1 and cls.__name__ not in SHARED
            name = cls.__name__ if is_alone else f"{service_name}_{cls.__name__}"
            self._names[cls] = unused(re.sub(r"[^\w.-]", "_", name, flags=re.ASCII), taken)
            taken.add(self._names[cls])

    def name(self, shape: Shape) -> str:
        """Return the name of a class's schema."""
        if shape.cls in self._messages:
            return self._names[shape.cls] + ("" if shape.says_its_name else "_plain")
        return self._names[shape.cls] + ("_named" if shape.says_its_name else "")

    def schema(self, shape: Shape) -> Json:
        """Return a class's schema."""
        return record(shape, tagged=shape.cls in self._tagged)


class Components:
    """The named schemas that the parts of a document refer to: `schemas`."""

    def __init__(self, names: Names) -> None:
        self._names, self.schemas = names, {}
        self._placed: dict[Shape, str] = {}

    schemas: Json

    def placed(self, part: Any) -> Any:
        """Return a part of the document, with a reference in place of each class and of each Named."""
        if isinstance(part, Named):
            return {"$ref": self._shared(part)}
        if isinstance(part, Shape):
            return self._of_class(part)
        if isinstance(part, list):
            return [self.placed(each) for each in part]
        return {name: self.placed(inner) for name, inner in part.items()} if isinstance(part, dict) else part

    def _of_class(self, shape: Shape) -> str:
        if shape not in self._placed:
            name = unused(self._names.name(shape), self.schemas)
            self._placed[shape] = f"{SCHEMAS}/{name}"
            self.schemas[name] = {}  # here, as it may contain itself
            self.schemas[name] = self.placed(self._names.schema(shape))
        return self._placed[shape]

    def _shared(self, part: Named) -> str:
        schema, name = self.placed(part.schema), part.name
        if self.schemas.get(name) != schema:
            name = unused(name, self.schemas)
            self.schemas[name] = schema
        return f"{SCHEMAS}/{name}"


def unused(name: str, taken: Json | set[str]) -> str:
    """Return the name, with a number if it is taken."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _messages(service: Service) -> list[Any]:
    """Return the classes of the commands and events of a service's aggregates."""
    return [cls for each in service.owned for hint in (each.command, each.event) for cls in alternatives(hint)]


def _parts(service: Service) -> list[Any]:
    return [*service.owned, *service.projections, *service.replicas]


def _inside(hints: list[Any]) -> Iterator[Any]:
    """Yield the message classes of these types, and those inside them."""
    waiting, seen = list(hints), set()
    while waiting:
        for option in alternatives(waiting.pop(0)):
            if not is_message(option):
                waiting += [part for part in get_args(option) if part is not Ellipsis]
            elif option not in seen:
                seen.add(option)
                yield option
                waiting += field_hints(option).values()

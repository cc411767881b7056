"""What a part follows: the events of an aggregate, as its service sees them, and examples of them for its test."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from uuid import UUID

from pipeline.errors import ScaffoldError
from pipeline.model import Precision, Source
from pipeline.model.fields import alternatives, members, opened
from pipeline.scaffold.adding import Adding
from pipeline.scaffold.editing import NotEditable
from pipeline.scaffold.names import Words
from pipeline.scaffold.parts import part
from pipeline.scaffold.project import Aggregated, aggregates_of

PLAIN = {str: '"x"', int: "1", float: "1.5", bool: "True", bytes: 'b"x"'}
SAMPLES = PLAIN | {  # those whose module a test has to import
    Decimal: 'decimal.Decimal("1")',
    datetime.datetime: "datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)",
    datetime.date: "datetime.date(2026, 1, 2)",
    datetime.time: "datetime.time(12)",
    datetime.timedelta: "datetime.timedelta(1)",
    UUID: "uuid.UUID(int=1)",
}
MODULES = ("datetime", "decimal", "uuid")
SIMPLE = {str: "str", int: "int", float: "float", bool: "bool"}
NAMED = (Decimal, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, UUID)  # by an import


@dataclass(frozen=True, slots=True)
class Followed:
    """The events of an aggregate in a service. `classes`: to be declared there; `source`: how it is followed there.

    `event`: the class that an example is made of; `several`: whether there are others. `imports`: what `classes` need
    of `pipeline`; `others`: of other modules.
    """

    aggregate: Aggregated
    classes: str
    source: str
    union: str
    event: type
    several: bool
    imports: tuple[str, ...] = ()
    others: Mapping[str, set[str]] = field(default_factory=dict)
    fields: tuple[str, ...] | None = None  # of `event`, as it is declared there; None: all

    def sample(self) -> str:
        """Return the arguments of an example of the event."""
        return ", ".join(f"{name}={text}" for name, text in self.example().items())

    def example(self) -> dict[str, str]:
        """Return the fields of an example of the event, as Python writes them."""
        if self.fields is None:
            return required(self.event)
        hints = get_type_hints(self.event)
        return {name: _value(self.event, name, hints[name], SAMPLES) for name in self.fields}

    def has(self, name: str, kind: object) -> bool:
        """Return whether the event has that field, of that type."""
        return (self.fields is None or name in self.fields) and get_type_hints(self.event).get(name) is kind


def imports_of(code: str) -> str:
    """Return the imports of what examples are made of, each in a line, and an empty line after them."""
    lines = "".join(f"import {name}\n" for name in MODULES if f"{name}." in code)
    return f"{lines}\n" if lines else ""


def required(cls: type, samples: Mapping[Any, str] = SAMPLES) -> dict[str, str]:
    """Return a value, as Python writes it, for each field without a default. Raises ScaffoldError."""
    hints = get_type_hints(cls)
    if dataclasses.is_dataclass(cls):
        names = [
            each.name
            for each in dataclasses.fields(cls)
            if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        ]
    else:
        defaults = getattr(cls, "_field_defaults", {})
        names = [name for name in getattr(cls, "_fields", ()) if name not in defaults]
    return {name: _value(cls, name, hints[name], samples) for name in names}


def _value(cls: type, name: str, hint: Any, samples: Mapping[Any, str]) -> str:
    kind, _ = opened(hint)
    if kind in samples:
        return samples[kind]
    if get_origin(kind) is Literal:
        return repr(get_args(kind)[0])
    if type(None) in alternatives(kind):
        return "None"
    if (origin := get_origin(kind)) in (tuple, list, dict):
        return {tuple: "()", list: "[]", dict: "{}"}[origin]
    raise ScaffoldError(
        f"no example of {cls.__name__} can be made: its field {name} is none of text, number, truth value, list and so "
        "on; give the field a default, or write this part by hand"
    )


def sampled(classes: Iterable[type], samples: Mapping[Any, str] = SAMPLES) -> type:
    """Return the first of the classes of which an example can be made. Raises ScaffoldError."""
    failed: ScaffoldError | None = None
    for cls in classes:
        try:
            required(cls, samples)
        except ScaffoldError as error:
            failed = failed or error
        else:
            return cls
    assert failed is not None
    raise failed


def owner_of(adding: Adding, aggregate: str) -> str:
    """Return the service of an aggregate. Raises ScaffoldError."""
    known = {name: each.name for each in adding.services.values() for name in aggregates_of(each)}
    if aggregate not in known:
        raise ScaffoldError(f"there is no aggregate {aggregate!r}; there are {', '.join(sorted(known)) or 'none'}")
    return known[aggregate]


def the_only(adding: Adding, option: str, *, within: str | None = None, without: str | None = None) -> str:
    """Return the only aggregate of a service, or of all others. Raises ScaffoldError if it is not the only one."""
    known = [
        name
        for each in adding.services.values()
        if each.name != without and within in (None, each.name)
        for name in aggregates_of(each)
    ]
    if len(known) == 1:
        return known[0]
    where = f"the service {within!r}" if within else f"services other than {without!r}" if without else "the project"
    if not known:
        raise ScaffoldError(f"{where} has no aggregate; add one with: pipeline add service NAME")
    raise ScaffoldError(f"{where} has several aggregates, {', '.join(sorted(known))}; say which with {option}")


def follow(adding: Adding, service: str, aggregate: str) -> Followed:
    """Return how a service follows an aggregate, its own or another's. Raises ScaffoldError."""
    owner = owner_of(adding, aggregate)
    declared = aggregates_of(adding.services[owner])[aggregate]
    events = list(alternatives(declared.event))
    if service not in adding.services:
        return _declared(declared, {})
    module = adding.modules[service]
    if service == owner:
        name = next((name for name, value in vars(module).items() if value is declared), None)
        if name is None:
            raise NotEditable(
                f"{module.__name__} gives the aggregate {aggregate!r} no name", f"{aggregate} = Aggregate(…)"
            )
        union = _alias(module, declared.event) or _union(module, events)
        return Followed(declared, "", f"{name}.events", union, sampled(events), len(events) > 1)
    topic = declared.events.topic
    followed = [each for each in adding.services[service].sources() if each.topic == topic]
    if not followed:
        return _declared(declared, vars(module))
    name = next((n for n, v in vars(module).items() if isinstance(v, Source) and v == followed[0]), None)
    if name is None:
        raise NotEditable(
            f"{module.__name__} follows {topic!r} already, by a Source without a name, and may have no second one",
            f'{aggregate.upper()} = Source("{topic}", …)',
        )
    classes = list(alternatives(followed[0].event))
    union = _alias(module, followed[0].event) or _union(module, classes)
    return Followed(declared, "", name, union, sampled(classes), len(classes) > 1)


def _union(module: ModuleType, classes: Sequence[type]) -> str:
    """Return a union of classes as it is written. Raises NotEditable if the module does not have one of them."""
    for each in classes:
        if vars(module).get(each.__name__) is not each:
            raise NotEditable(
                f"{module.__name__} does not have the event {each.__name__} by its name",
                f"from {each.__module__} import {each.__name__}",
            )
    return " | ".join(each.__name__ for each in classes)


def _alias(module: ModuleType, union: object) -> str | None:
    """Return the name that a module has for a class or a union of classes, if there is one."""
    return next((name for name, value in vars(module).items() if value == union and not name.startswith("_")), None)


@dataclass
class _Writer:
    """Writes types as Python does. `taken`: the names in the module that they are for; `needs`: its imports."""

    taken: Mapping[str, object]
    needs: dict[str, set[str]] = field(default_factory=dict)

    def written(self, hint: Any) -> str | None:
        """Return how a type is written there; None for one that is not taken over."""
        kind, said = opened(hint)
        several = members(kind)
        if len(several) == 2 and type(None) in several:
            inner = next((text for each in several if each is not type(None) and (text := self.written(each))), None)
            return inner and f"{inner} | None"
        if kind in SIMPLE:
            return SIMPLE[kind]
        if kind not in NAMED:
            return None
        name: str = kind.__name__
        needed: dict[str, tuple[str, object]] = {name: (kind.__module__, kind)}
        precision = next((each for each in said if isinstance(each, Precision)), None)
        if precision is not None:
            needed |= {"Annotated": ("typing", Annotated), "Precision": ("pipeline", Precision)}
        if any(self.taken.get(each, value) is not value for each, (_, value) in needed.items()):
            return None  # the module has something else by that name
        for each, (module, _) in needed.items():
            self.needs.setdefault(module, set()).add(each)
        return name if precision is None else f"Annotated[{name}, Precision({precision.digits}, {precision.scale})]"


def _declared(aggregate: Aggregated, taken: Mapping[str, object]) -> Followed:
    """Return the follower's own classes of the events, each with those of its fields that are plain values."""
    words, topic = Words(aggregate.name), aggregate.events.topic
    declared, kept, writer = "", {}, _Writer(taken)
    for event in alternatives(aggregate.event):
        hints = get_type_hints(event, include_extras=True)
        texts = {name: text for name, hint in hints.items() if (text := writer.written(hint))}
        kept[event] = tuple(texts)
        lines = [f"{name}: {text}" for name, text in texts.items()]
        if left := [name for name in hints if name not in texts]:
            lines.append("# Left out, as they are no plain values (text, number, time, id …); add those that you need,")
            lines += [f"# as their owner declares them (schemas/{topic}.avsc):", *(f"#   {name}" for name in left)]
        if not texts:
            lines.insert(0, "pass")
        declared += part("foreign", {"event": event.__name__, "fields": "\n    ".join(lines)})
    union = " | ".join(each.__name__ for each in kept)
    alias, name = f"{words.kind}Event", aggregate.name.upper()
    if name in taken:
        name = f"{name}_EVENTS"
    declared += f'{alias} = {union}\n{name} = Source("{topic}", {alias})\n\n'
    event = next(iter(kept))
    imports = ("Source", *writer.needs.pop("pipeline", ()))
    return Followed(aggregate, declared, name, alias, event, len(kept) > 1, imports, writer.needs, kept[event])

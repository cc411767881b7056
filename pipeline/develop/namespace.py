"""What `pipeline shell` has at hand: a topology's parts by name, and clients that are connected to it."""

from __future__ import annotations

import builtins
import datetime
import keyword
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from types import ModuleType
from typing import Any, NamedTuple
from uuid import UUID

from pipeline.adapters.avro.binding import is_message
from pipeline.develop.examples import KEY, example_command, given_fields
from pipeline.model import Aggregate, Service
from pipeline.model.fields import alternatives
from pipeline.topology import Topology

STANDARD = {"datetime": datetime, "Decimal": Decimal, "UUID": UUID}  # of the standard library, for commands' fields


class Part(NamedTuple):
    """A name in the shell. `example`: code that uses it; "" for none."""

    name: str
    what: str
    value: Any
    example: str = ""


def parts(topology: Topology) -> list[Part]:
    """Return the parts of a topology by the names that they have in a shell; a name that is taken gets a `_` more.

    Aggregates, sagas, projections and replicas come before modules, so a module of the same name is `<name>_service`.
    Of two classes of a name each is reached by its module alone.
    """
    names = _Names()
    services = topology.services.values()
    found = [Part(names.give(name), what, value) for service in services for name, what, value in _tables(service)]
    modules: dict[str, str] = {}
    for service in services:
        if (module := _module_of(service)) is not None:
            own = names.give(f"{service.name}_service" if names.has(service.name) else service.name)
            found.append(Part(own, f"module of the service {service.name}", module))
            modules[module.__name__] = own
    addressed = [aggregate for service in services for aggregate in service.addressed]
    spelled: dict[type, str] = {}
    for cls, is_alone in _classes(addressed, [part.value for part in found if isinstance(part.value, ModuleType)]):
        if is_alone and not names.has(cls.__name__):
            is_command = any(cls in alternatives(aggregate.command) for aggregate in addressed)
            found.append(Part(names.give(cls.__name__), "command" if is_command else "class", cls))
        elif cls.__module__ in modules:
            spelled[cls] = f"{modules[cls.__module__]}.{cls.__name__}"
    return [_with_example(part, addressed, spelled) for part in found]


class _Names:
    def __init__(self) -> None:
        self._given = {"client", "query", "topology", *STANDARD, *keyword.kwlist, *keyword.softkwlist, *dir(builtins)}

    def has(self, name: str) -> bool:
        return name in self._given

    def give(self, name: str) -> str:
        name = name if name.isidentifier() else "".join(c if c.isalnum() else "_" for c in f"_{name}").strip("_") or "_"
        while name in self._given:
            name += "_"
        self._given.add(name)
        return name


def _tables(service: Service) -> Iterator[tuple[str, str, Any]]:
    kinds: tuple[tuple[str, Sequence[Any]], ...] = (
        ("aggregate", service.aggregates),
        ("saga", service.sagas),
        ("projection", service.projections),
        ("replica", service.replicas),
    )
    for kind, tables in kinds:
        for table in tables:
            yield table.name, kind, table


def code_of(value: Any, names: Mapping[type, str]) -> str:
    """Return the code of a message, without fields that have their defaults, or of what is in one.

    `names`: how a class is written, if not by its own name.
    """
    cls = type(value)
    name = names.get(cls, cls.__name__)
    if isinstance(value, Enum):
        return f"{name}.{value.name}"
    if is_message(cls):
        return f"{name}({', '.join(f'{field}={code_of(each, names)}' for field, each in given_fields(value).items())})"
    if isinstance(value, tuple):
        return f"({''.join(f'{code_of(each, names)}, ' for each in value).rstrip()})"
    return repr(value)


def _with_example(part: Part, addressed: Collection[Any], names: Mapping[type, str]) -> Part:
    """Return the part with code that sends its first command, or reads its rows."""
    if part.what in ("projection", "replica", "saga"):
        return part._replace(example=f'query.get({part.name}, "{KEY}")')
    if part.what != "aggregate" or part.value not in addressed:
        return part
    command = example_command(part.value)
    shown = "…" if command is None else code_of(command, names)
    return part._replace(example=f'client.send({part.name}, "{KEY}", {shown}, wait=10)')


def _classes(
    addressed: Sequence[Aggregate[Any, Any, Any]], modules: Sequence[ModuleType]
) -> Iterator[tuple[type, bool]]:
    """Return the classes of commands, and of what is in the modules, each with whether no other has its name."""
    commands = [cls for aggregate in addressed for cls in alternatives(aggregate.command)]
    others = [each for module in modules for each in vars(module).values() if is_message(each) or _is_enum(each)]
    found: dict[str, dict[type, None]] = {}
    for cls in (*commands, *others):
        if not cls.__module__.startswith("pipeline.model"):
            found.setdefault(cls.__name__, {})[cls] = None
    for classes in found.values():
        yield from ((cls, len(classes) == 1) for cls in classes)


def _is_enum(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Enum)


def _module_of(service: Service) -> ModuleType | None:
    for module in list(sys.modules.values()):
        declared = getattr(module, "service", None)
        if isinstance(declared, Service) and declared.name == service.name:
            return module
    return None


def banner(topology: Topology, found: list[Part], bootstrap: str) -> str:
    """Return what a shell says at its start: what is at hand, with an example each."""
    lines = [f"{topology.name} on {bootstrap}: client and query are connected, topology is loaded.", ""]
    width = max((len(part.name) for part in found if part.what not in ("command", "class")), default=0)
    for part in found:
        if part.what not in ("command", "class"):
            lines.append(f"  {part.name:<{width}}  {part.what}")
            lines += [f"      {part.example}"] if part.example else []
    if commands := ", ".join(part.name for part in found if part.what == "command"):
        lines += ["", *textwrap.wrap(f"commands: {commands}", 78, initial_indent="  ", subsequent_indent="    ")]
    return "\n".join([*lines, "", "Ctrl-D ends it."])

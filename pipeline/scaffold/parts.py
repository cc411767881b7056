"""The parts of a service as text, each in the house order, with its test."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.scaffold.names import Words
from pipeline.scaffold.rendering import PARTS, rendered

WIDTH = 119


def rule(title: str) -> str:
    """Return the comment above a section."""
    return f"# --- {title} ".ljust(WIDTH, "-")


def part(name: str, values: Mapping[str, str]) -> str:
    """Return the text of one template of parts."""
    return rendered(PARTS, name, values)


def service_module(service: str, doc: str, block: str, imports: list[str], lists: str) -> str:
    """Return a module of a service: what it imports, one block of parts, its declaration."""
    values = {"doc": doc, "imports": ", ".join(imports), "block": block, "service": service, "lists": lists}
    return part("service", {**values, "rule_service": rule("service")})


def aggregate_block(name: str, *, alone: bool) -> str:
    """Return an aggregate. `alone`: in a module of its own, where its names need not tell it from others."""
    words = Words(name)
    snake = words.kind if alone else words.one.replace(" ", "_")
    title = "" if alone else f"{name}: "
    values = words.as_placeholders()
    values |= {f"rule_{each}": rule(f"{title}{each}") for each in ("commands", "events", "state")}
    values["rule_decide"] = rule(f"{title}decide and evolve")
    prefix = "" if alone else words.kind
    values |= {"command_union": f"{prefix}Command", "event_union": f"{prefix}Event"}
    values |= {"decide": "decide" if alone else f"decide_{snake}", "evolve": "evolve" if alone else f"evolve_{snake}"}
    return part("aggregate", values)


def use_block(name: str) -> str:
    """Return the projection that comes with a service's first aggregate."""
    title = rule("projection: how often each was reserved")
    return part("use", {**Words(name).as_placeholders(), "event_union": "Event", "rule_use": title})


def service_files(package: str, service: str) -> tuple[str, str]:
    """Return the module of a service with an aggregate and a projection of its name, and its tests."""
    words = Words(service)
    block = aggregate_block(service, alone=True) + use_block(service)
    imports = ["Aggregate", "Projection", "Rejected", "Service"]
    lists = f"aggregates=[{service}], projections=[{words.use}]"
    module = service_module(service, f"The {service} service: owns who has each {words.one}.", block, imports, lists)
    values = {"package": package, "module": service, "service": service, **words.as_placeholders()}
    values["decisions"] = part("decisions", values)
    return module, part("test_service", values)

"""The kinds of parts that `pipeline add` knows, each with its choice of defaults."""

from __future__ import annotations

from typing import get_type_hints

from pipeline.errors import ScaffoldError
from pipeline.model.fields import alternatives
from pipeline.scaffold.adding import Added, Adding, Part
from pipeline.scaffold.following import PLAIN, Followed, follow, imports_of, owner_of, required, sampled, the_only
from pipeline.scaffold.names import Words, camel
from pipeline.scaffold.parts import aggregate_block, part, rule, service_files
from pipeline.scaffold.project import aggregates_of


def add_service(adding: Adding, name: str) -> Added:
    """Add a service with an aggregate and a projection, in a module of its own."""
    adding.check_name("service", name)
    adding.check_name("service", Words(name).use)
    path, test = adding.new_file(name), adding.new_test(name)
    module, tests = service_files(adding.project.package, name)
    return adding.write({path: module, test: tests}, name)


def add_aggregate(adding: Adding, name: str, service: str | None) -> Added:
    """Add an aggregate to a service, or in a service of its own."""
    adding.check_name("aggregate", name)
    there = service in adding.services
    short = adding.module(service)[0] if service is not None and there else service or name
    values = {"package": adding.project.package, "module": short, **Words(name).as_placeholders()}
    test = part("test_aggregate", {**values, "decisions": part("decisions", values)})
    block = aggregate_block(name, alone=not there)
    return adding.into(service or name, name, Part(block, ("Aggregate", "Rejected"), ("aggregates", name), test))


def add_table(adding: Adding, kind: str, name: str, service: str | None, of: str | None) -> Added:
    """Add a projection or a replica of an aggregate's events."""
    adding.check_name(kind, name)
    replica = kind == "replica"
    if service is not None and not replica:
        of = of or the_only(adding, "--of", within=service if _has_one(adding, service) else None)
    elif service is not None:
        of = of or the_only(adding, "--of", without=service)
    of = of or the_only(adding, "--of")
    owner = owner_of(adding, of)
    service = service or (_the_other(adding, owner) if replica else owner)
    if replica and service == owner:
        raise ScaffoldError(
            f"{service!r} owns {of!r}: a replica is a service's copy of another's data; add a projection, or name "
            "another service with --service"
        )
    followed, row = follow(adding, service, of), camel(name)
    values = _of(adding, service, name, followed)
    values |= {"row": row, "kind_of_part": kind, "parts": f"{kind}s", "rule_part": rule(f"{kind}: {name}")}
    imports = (camel(kind), *followed.imports)
    made = Part(part(kind, values), imports, (f"{kind}s", name), part("test_table", values), followed.others)
    return adding.into(service, name, made)


def add_reaction(adding: Adding, name: str, service: str | None, of: str | None, to: str | None) -> Added:
    """Add a reaction to another service's events, with a command for one's own aggregate."""
    adding.check_name("reaction", name)
    if service is None and to is None:
        service = _the_other(adding, owner_of(adding, of)) if of else None
        if service is None:
            raise ScaffoldError("say what it follows with --of AGGREGATE, and what it commands with --to AGGREGATE")
    to = to or the_only(adding, "--to", within=service)
    service = service or owner_of(adding, to)
    adding.service(service)
    if to not in aggregates_of(adding.services[service]):
        raise ScaffoldError(f"{to!r} is no aggregate of {service!r}, and a reaction commands those of its own service")
    of = of or the_only(adding, "--of", without=service)
    target = aggregates_of(adding.services[service])[to]
    command = sampled(alternatives(target.command), PLAIN)
    if vars(adding.modules[service]).get(command.__name__) is not command:
        raise ScaffoldError(f"the module of {service!r} does not have {command.__name__}, the command of {to!r}, in it")
    hints = get_type_hints(command)
    followed = follow(adding, service, of)
    values = _of(adding, service, name, followed)
    wanted = required(command, PLAIN)
    shared = {field for field in wanted if followed.has(field, hints[field])}
    filled = {f: ("key", '"12"') if hints[f] is str else (text, text) for f, text in wanted.items()}
    filled |= {f: (f"event.{f}", followed.example().get(f, text)) for f, text in wanted.items() if f in shared}
    given, expected = (", ".join(f"{f}={pair[n]}" for f, pair in filled.items()) for n in (0, 1))
    guard = f"    if not isinstance(event, {followed.event.__name__}):\n        return []\n" if followed.several else ""
    values |= {"guard": guard, "command": f"{command.__name__}({given})", "rule_part": rule(f"reaction: {name}")}
    values["sent"] = f"{values['module']}.{command.__name__}({expected})"
    made = Part(
        part("reaction", values),
        ("Reaction", "Send", *followed.imports),
        ("reactions", f"{name}_reaction"),
        part("test_reaction", values),
        followed.others,
    )
    return adding.into(service, name, made)


def _of(adding: Adding, service: str, name: str, followed: Followed) -> dict[str, str]:
    """Return the placeholders of a part that follows something."""
    module = adding.module(service)[0] if service in adding.services else service
    sample = followed.sample()
    return {
        "package": adding.project.package,
        "std": imports_of(sample),
        "module": module,
        "name": name,
        "classes": followed.classes,
        "source": followed.source,
        "event_union": followed.union,
        "event": f"{module}.{followed.event.__name__}({sample})",
        "event_name": followed.event.__name__,
    }


def _has_one(adding: Adding, service: str) -> bool:
    return service in adding.services and len(aggregates_of(adding.services[service])) > 0


def _the_other(adding: Adding, owner: str) -> str:
    """Return the only service beside the owner. Raises ScaffoldError if it is not the only one."""
    others = sorted(name for name in adding.services if name != owner)
    if len(others) == 1:
        return others[0]
    if not others:
        raise ScaffoldError(
            f"there is no service beside {owner!r} that could follow it; add one with: pipeline add service NAME"
        )
    raise ScaffoldError(f"several services could have it, {', '.join(others)}; say which with --service")

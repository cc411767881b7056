"""A saga over two aggregates that can be reserved and released, as those that `pipeline add` makes can."""

from __future__ import annotations

import keyword
from dataclasses import dataclass
from itertools import islice
from typing import get_type_hints

from pipeline.errors import ScaffoldError
from pipeline.model import Rejected
from pipeline.model.fields import alternatives
from pipeline.scaffold.adding import Added, Adding
from pipeline.scaffold.following import owner_of
from pipeline.scaffold.names import Words, camel, singular
from pipeline.scaffold.parts import part, rule
from pipeline.scaffold.project import Aggregated, aggregates_of
from pipeline.testing import given

OWN_FIELDS = {"by", "progress", "key", "context", "begin", "state"}


@dataclass(frozen=True, slots=True)
class Step:
    """An aggregate, and the commands that do and undo a step with it."""

    aggregate: Aggregated
    do: type
    undo: type

    def as_placeholders(self, prefix: str) -> dict[str, str]:
        """Return the placeholders of the templates, each beginning with `prefix`."""
        values = Words(self.aggregate.name).as_placeholders(prefix)
        name = singular(self.aggregate.name)
        field = f"{name}_key" if keyword.iskeyword(name) or name in OWN_FIELDS else name
        do, undo = (next(iter(get_type_hints(each))) for each in (self.do, self.undo))
        commands = {"do": self.do.__name__, "undo": self.undo.__name__, "arg": do, "unarg": undo}
        return values | {f"{prefix}field": field} | {f"{prefix}{each}": text for each, text in commands.items()}

    def accepts(self) -> bool:
        """Return whether the aggregate accepts the command at its beginning."""
        return not isinstance(given(self.aggregate).when(self.do("x")).decision, Rejected)


def add_saga(adding: Adding, name: str, over: tuple[str, ...]) -> Added:
    """Add a saga in a service of its own."""
    adding.check_name("saga", name)
    path, test = adding.new_file(name), adding.new_test(name)
    first, second = _chosen(adding, over)
    a, b = first.as_placeholders("a_"), second.as_placeholders("b_")
    if a["a_field"] == b["b_field"]:
        raise ScaffoldError(f"both aggregates are called {a['a_one']} in the singular; name two others with --over")
    classes = [a["a_do"], a["a_undo"], b["b_do"], b["b_undo"], camel(name), f"Begin{camel(name)}"]
    if len(set(classes)) < len(classes):
        twice = next(each for each in classes if classes.count(each) > 1)
        raise ScaffoldError(f"two of its classes would be called {twice}; choose another name, or other aggregates")
    values = {"package": adding.project.package, "module": name, "name": name, "saga": camel(name), **a, **b}
    titles = {"begin": "what begins it", "state": "state", "asks": "what it asks of others, as their schemas say"}
    titles |= {"steps": "the steps, and what undoes them", "service": "service"}
    values |= {f"rule_{key}": rule(title) for key, title in titles.items()}
    whole = first.accepts() and second.accepts()
    values["in_memory"] = part("test_saga_in_memory", values) if whole else ""
    values["imports"] = part("test_saga_imports_in_memory" if whole else "test_saga_imports", {}).rstrip()
    return adding.write({path: part("saga", values), test: part("test_saga", values)}, name)


def _chosen(adding: Adding, over: tuple[str, ...]) -> tuple[Step, Step]:
    if len(over) not in (0, 2) or len(set(over)) < len(over):
        raise ScaffoldError("a saga made so has steps over two aggregates; name two with --over A --over B, or none")
    known = {name: each for service in adding.services.values() for name, each in aggregates_of(service).items()}
    if over:
        steps = [_step(known[each]) for each in over if owner_of(adding, each)]
        if None in steps:
            wrong = over[steps.index(None)]
            raise ScaffoldError(
                f"{wrong!r} takes no commands Reserve…(text) and Release…(text), as added aggregates do; "
                "name another, or write the saga's steps by hand: docs/transactions.md"
            )
        return steps[0], steps[1]  # type: ignore[return-value]
    found = list(islice((step for each in known.values() if (step := _step(each))), 3))
    if len(found) < 2:
        raise ScaffoldError(
            f"a saga needs two aggregates that can be reserved and released, and there is {len(found) or 'none'}; add "
            "one with: pipeline add service NAME"
        )
    if len(found) > 2:
        raise ScaffoldError(f"there are several aggregates, {', '.join(known)}; name two with --over A --over B")
    return found[0], found[1]


def _step(aggregate: Aggregated) -> Step | None:
    """Return the commands of an aggregate that reserve and release it; None if it has no such two."""
    fitting = [each for each in alternatives(aggregate.command) if list(get_type_hints(each).values()) == [str]]
    do = [each for each in fitting if each.__name__.startswith("Reserve")]
    undo = [each for each in fitting if each.__name__.startswith("Release")]
    return Step(aggregate, do[0], undo[0]) if do and undo else None

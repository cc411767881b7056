"""Shows docstrings and the clients as they are meant: an extension of mkdocstrings.

Lines that begin with a parameter, as in "`name`: …", become a list. The methods of the clients, which
pipeline/client/facade.py makes of steps, are shown as what they become: `get = call(Requests.get)` as a function with
the parameters and the docstring of its steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy
from typing import Any

import griffe

PARAMETER = re.compile(r"^`\w[^`]*`(?:, `\w[^`]*`)*: ")
MAKERS = {"call": "{}", "call_async": "{}", "each": "Iterator[{}]", "each_async": "AsyncIterator[{}]"}


class AsMeant(griffe.Extension):
    """Puts lists into docstrings, and functions in place of a client's attributes that are made of steps."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = "\n".join(_with_lists(obj.docstring.value.splitlines()))

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        for module in pkg["client"].modules.values():
            for cls in module.classes.values():
                for attribute in list(cls.attributes.values()):
                    if (function := _made(attribute, pkg)) is not None:
                        cls.set_member(attribute.name, function)


def _made(attribute: griffe.Attribute, pkg: griffe.Module) -> griffe.Function | None:
    """The function that an attribute becomes; None if it is no method made of steps."""
    value = attribute.value
    if not (isinstance(value, griffe.ExprCall) and str(value.function) in MAKERS):
        return None
    argument = value.arguments[0]
    assert isinstance(argument, griffe.Expr)
    steps = pkg[argument.canonical_path.removeprefix(f"{pkg.name}.")]
    shown = steps.returns.slice if isinstance(steps.returns, griffe.ExprSubscript) else steps.returns
    made = griffe.Function(
        attribute.name,
        lineno=attribute.lineno,
        endlineno=attribute.endlineno,
        parameters=steps.parameters,
        returns=MAKERS[str(value.function)].format(shown),
        docstring=copy(steps.docstring),
    )
    if str(value.function).endswith("_async") and not str(made.returns).startswith("AsyncIterator"):
        made.labels.add("async")
    return made


def _with_lists(lines: list[str]) -> Iterator[str]:
    """The lines of a docstring, those of a parameter as an item of a list."""
    inside = False
    for line in lines:
        begins, inside = PARAMETER.match(line), inside and bool(line)
        if begins and not inside:
            yield ""
        inside = inside or bool(begins)
        yield f"- {line}" if begins else f"  {line}" if inside else line

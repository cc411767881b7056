"""Schemas of JSON that stand alone, with those of the classes in them."""

from __future__ import annotations

from typing import Any

from pipeline.server.schemas.components import Components
from pipeline.server.schemas.json_schema import Shape, json_schema, record

Json = dict[str, Any]


class Names:
    """Of schemas of classes that all have different names, in something that is tagged, or in nothing that is."""

    def __init__(self, *, tagged: bool) -> None:
        self._tagged = tagged

    def name(self, shape: Shape) -> str:
        return f"{shape.cls.__name__}_named" if shape.says_its_name else str(shape.cls.__name__)

    def schema(self, shape: Shape) -> Json:
        return record(shape, tagged=self._tagged)


def whole_schema(hint: Any, *, tagged: bool = False) -> Json:
    """The schema of what `to_json` makes of a value of that type."""
    names: Any = Names(tagged=tagged)
    components = Components(names)
    schema = components.placed(json_schema(hint, tagged=tagged))
    return {**schema, "components": {"schemas": components.schemas}}

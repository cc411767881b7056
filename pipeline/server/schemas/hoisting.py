"""Schemas that refer to themselves, in a document: what they refer to has to be in one place of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.server.schemas.json_schema import DEFS, Json

REF = "$ref"


def hoisted(part: Any, schemas: Json) -> Any:
    """Return a part of a document, with what is among its `$defs` moved to `schemas`, of `#/components/schemas`.

    What has the name of another gets a number.
    """
    if isinstance(part, list):
        return [hoisted(each, schemas) for each in part]
    if not isinstance(part, dict):
        return part
    if not (defs := part.get(DEFS)):
        return {name: hoisted(inner, schemas) for name, inner in part.items()}
    number = 1
    while True:
        names = {name: name if number == 1 else f"{name}_{number}" for name in defs}
        own = _pointed(part, names)
        moved = {names[name]: schema for name, schema in own.pop(DEFS).items()}
        if all(schemas.get(name, schema) == schema for name, schema in moved.items()):
            schemas.update(moved)
            return own
        number += 1


def _pointed(part: Any, names: Mapping[str, str]) -> Any:
    if isinstance(part, list):
        return [_pointed(each, names) for each in part]
    if not isinstance(part, dict):
        return part
    found = {name: _pointed(inner, names) for name, inner in part.items()}
    if isinstance(part.get(REF), str):
        found[REF] = f"#/components/schemas/{names[part[REF].removeprefix(f'#/{DEFS}/')]}"
    return found

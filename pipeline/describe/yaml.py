"""Writes what JSON can hold as YAML, the same text for the same value.

Strings are in double quotes, as in JSON, so that none is taken for something else; names are bare if they can be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

BARE = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
KEY_MAX = 1000  # of a key that needs no mark
WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # which YAML does not take as text


def yaml_text(value: Any) -> str:
    """Return a document."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            key = _name(name)
            if len(key) > KEY_MAX:
                yield f"? {key}"
                key = ""
            inner = list(_lines(part))
            if isinstance(part, Mapping | list) and part:
                yield f"{key}:"
                yield from (f"  {line}" for line in inner)
            else:
                yield f"{key}: {inner[0]}"
    elif isinstance(value, list) and value:
        for part in value:
            first, *rest = _lines(part)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(value)


def _name(name: str) -> str:
    return name if BARE.fullmatch(name) and name.lower() not in WORDS else _scalar(name)


def _scalar(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and "." not in text:
        return text.replace("e", ".0e")  # else it is text to YAML
    # Characters that JSON may have in a string, and YAML may not, or takes for the end of a line.
    return re.sub(
        r"[^\t\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]", _escaped, text
    )


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]

"""Parts of Python source: texts, docs and values of types, as the classes of messages have them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from json import dumps
from typing import Any, NamedTuple

from pipeline.adapters.avro.conversions import CONVERSIONS, conversion_for
from pipeline.adapters.avro.schemas.field_docs import FOR_TOOLS

WIDTH = 120
SHORT, LONG = 2**31, 2**63
KINDS = {needs[0]: kind for kind, (needs, _) in CONVERSIONS.items()}  # by type and logical type of Avro


class Source(NamedTuple):
    """Source, and what it has to import."""

    text: str
    names: tuple[str, ...] = ()


def text_literal(text: str) -> str:
    """Return a text in quotes."""
    return dumps(text, ensure_ascii=False) if text.isprintable() else ascii(text)


def class_name(topic: str) -> str:
    """Return what the messages of a topic are called together, such as OrdersEvent."""
    return "".join(part.capitalize() for part in topic.replace(".", "_").split("_"))


def docstring(doc: str | None) -> list[str]:
    """Return the lines of a docstring in a class; none if there is nothing to say."""
    words = " ".join((doc or "").split())
    if not words:
        return []
    escaped = words.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    escaped = escaped[:-1] + '\\"' if escaped.endswith('"') else escaped
    escaped = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in escaped)
    text = f'"""{escaped}"""'
    lines = [text]
    if len(text) > WIDTH - 4:
        lines = textwrap.wrap(text, WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    return [f"    {line}" for line in lines]


def with_doc(line: str, doc: str) -> list[str]:
    """Return the lines of a field: its doc is a comment behind it, or what does not fit there is a string below it."""
    words = " ".join(doc.split())
    if not words or words.startswith(FOR_TOOLS):
        return [line]
    if len(line) + len(words) + 4 <= WIDTH and words.isprintable() and words[0] not in "#:":
        return [f"{line}  # {words}"]
    return [line, *docstring(words)]


def literal(value: Any, described: Mapping[str, Any]) -> Source:
    """Return the source of a default without parts, from its JSON. Raises ValueError if it is none of its type."""
    kind, logical = described["type"], described.get("logicalType", "")
    avro = value.encode("latin-1") if kind in ("bytes", "fixed") and isinstance(value, str) else value
    fits = {
        "null": value is None,
        "boolean": type(value) is bool,
        "int": type(value) is int and -SHORT <= value < SHORT,
        "long": type(value) is int and -LONG <= value < LONG,
        "float": type(value) in (int, float) and math.isfinite(value),
        "double": type(value) in (int, float) and math.isfinite(value),
        "string": type(value) is str,
        "bytes": type(avro) is bytes,
        "fixed": type(avro) is bytes and len(avro) == described.get("size"),
    }
    if not fits.get(kind, False):
        raise ValueError(f"{dumps(value)} is no {kind}")
    if (made := KINDS.get((kind, logical))) is not None:
        return _converted(conversion_for(made, dict(described)).from_avro(avro))
    if kind in ("float", "double"):
        return Source(repr(float(value)))
    return Source(text_literal(value) if kind == "string" else repr(avro))


def _converted(value: Any) -> Source:
    name = type(value).__name__
    match value:
        case datetime() | time() | date():
            return Source(f'{name}.fromisoformat("{value.isoformat()}")', (name,))
        case timedelta():
            return Source(f"timedelta(microseconds={value // timedelta(microseconds=1)})", (name,))
    return Source(f'{name}("{value}")', (name,))

"""The page /docs of a worker: its OpenAPI document for people, in one piece, with nothing from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Json = dict[str, Any]
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: 13px/1.45 ui-monospace, monospace } pre { background: #8882; padding: .6rem; overflow-x: auto }
details { border: 1px solid #ddd; border-radius: 4px; margin: .4rem 0; padding: .3rem .7rem }
summary { cursor: pointer }
b { display: inline-block; min-width: 4.2rem } td { padding: 0 1rem .2rem 0; vertical-align: top }
@media (prefers-color-scheme: dark) { body { background: #1b1b1b; color: #ddd } a { color: #8ab4f8 } }
"""
REFERENCE = re.compile(r"&quot;#/components/schemas/([^&]+)&quot;")


def docs_page(document: Mapping[str, Any]) -> bytes:
    """Return the page. `document`: OpenAPI, as /openapi.json gives it."""
    title = escape(document["info"]["title"])
    schemas = document["components"]["schemas"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>",
        '<p><a href="openapi.json">OpenAPI</a> · <a href="v1/tables">tables</a> · <a href="v1/status">status</a> · ',
        '<a href="metrics">metrics</a></p>',
        *(part for name, paths in _groups(document["paths"]) for part in _group(name, paths)),
        "<h2>Schemas</h2>",
        *(_schema(name, schema) for name, schema in sorted(schemas.items())),
        "</body></html>",
    ]
    return "\n".join(parts).encode()


def _groups(paths: Mapping[str, Json]) -> Iterator[tuple[str, dict[str, Json]]]:
    """Return the paths by what they are of, commands and tables first."""
    found: dict[str, dict[str, Json]] = {"commands": {}, "tables": {}}
    for path, methods in paths.items():
        found.setdefault(path.removeprefix("/v1/").partition("/")[0], {})[path] = methods
    yield from found.items()


def _group(name: str, paths: Mapping[str, Json]) -> Iterator[str]:
    yield f"<h2>{escape(name.capitalize())}</h2>"
    for path, methods in paths.items():
        yield from (_operation(path, method, told) for method, told in methods.items())


def _operation(path: str, method: str, told: Json) -> str:
    return "\n".join(
        [
            f"<details><summary><b>{method.upper()}</b><code>{escape(path)}</code> {escape(told['summary'])}</summary>",
            f"<pre>{escape(_curl(path, method))}</pre>",
            *_parameters(told["parameters"]),
            *_body("It takes", told.get("requestBody", {})),
            *(part for status, each in told["responses"].items() for part in _response(status, each)),
            "</details>",
        ]
    )


def _curl(path: str, method: str) -> str:
    how = "" if method == "get" else f" -X {method.upper()}"
    body = " -d '{…}' -H 'Content-Type: application/json'" if method == "post" else ""
    return f"curl{how} http://HOST:PORT{path}{body}"


def _parameters(parameters: list[Json]) -> Iterator[str]:
    if parameters:
        rows = "".join(
            f"<tr><td><code>{escape(each['name'])}</code><td>{escape(each['in'])}"
            f"<td>{escape(each.get('description', ''))}"
            for each in parameters
        )
        yield f"<table>{rows}</table>"


def _body(what: str, told: Json) -> Iterator[str]:
    for content in told.get("content", {}).values():
        yield f"<p>{what}</p>{_shown(content['schema'])}" if "schema" in content else ""


def _response(status: str, told: Json) -> Iterator[str]:
    problem = "application/problem+json" in told.get("content", {})
    said = f"<b>{escape(status)}</b>{escape(told.get('description', ''))}"
    yield f"<p>{said}</p>" if problem else "".join(_body(said, told)) or f"<p>{said}</p>"


def _schema(name: str, schema: Json) -> str:
    return f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_shown(schema)}</details>'


def _shown(schema: Json) -> str:
    """Return a schema as text, in which references are links."""
    text = escape(json.dumps(schema, indent=2, ensure_ascii=False))
    linked = REFERENCE.sub(r'<a href="#\1">\1</a>', text)
    return f"<pre>{linked}</pre>"

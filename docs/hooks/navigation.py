"""Makes the navigation of the site from the index pages, so that a page that is listed there is in it: a MkDocs hook.

The front page, docs/index.md, has the pages to begin with, and then a table whose columns become sections. The folders
FOLDERS are sections of their own, in the order of their index pages; one that is not there is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig

TABLE = "## All pages"
FOLDERS = {"tutorial": "Tutorial", "howto": "How to"}  # before the table's sections; the reference comes after them
LINK = re.compile(r"\[([^\]]+)\]\(([\w./-]+)\)")
OUTSIDE = "../"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the navigation."""
    docs = Path(config.docs_dir)
    begin, _, table = (docs / "index.md").read_text().partition(TABLE)
    start = ["index.md", *_pages(LINK.findall(begin))]
    sections: list[dict[str, list[Any]]] = [{"Start": start}]
    sections += [{title: _of_folder(docs, name)} for name, title in FOLDERS.items() if (docs / name).is_dir()]
    sections += [{title: [page for page in _pages(links) if page not in start]} for title, links in _columns(table)]
    config.nav = [*sections, {"Reference": _of_folder(docs, "reference")}]
    return config


def _of_folder(docs: Path, name: str) -> list[Any]:
    """The pages of a folder, in the order in which its index lists them, a table column by column."""
    text = (docs / name / "index.md").read_text()
    links = [link for _, links in _columns(text) for link in links] or LINK.findall(text)
    return [f"{name}/index.md", *(f"{name}/{page}" for page in _pages(links))]


def _columns(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The columns of a page's table: the first word of the heading, and the links below it."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    for n, heading in enumerate(rows[0] if rows else ()):
        links = [link for row in rows[2:] if n < len(row) for link in LINK.findall(row[n])]
        yield heading.partition(":")[0].strip().capitalize(), links


def _pages(links: list[tuple[str, str]]) -> Iterator[Any]:
    """The entries for pages of the same folder, and for files outside docs/, which repository.py shows."""
    for text, target in links:
        if target.startswith(OUTSIDE):
            path = target.removeprefix(OUTSIDE)
            if path != "README.md" and "/" not in path:
                yield {text: f"repository/{path}" if path.endswith(".md") else f"repository/{path}.md"}
        elif target.endswith(".md") and "/" not in target:
            yield target

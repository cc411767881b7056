"""Adds the modules of pipeline.contrib to the reference of the clients, with all that each exports: a MkDocs hook.

The page says where: at its line MARK.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

MARK = "<!-- the modules of pipeline.contrib -->"
CONTRIB = Path(__file__).parents[2] / "pipeline" / "contrib"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the modules in place of the mark."""
    return markdown.replace(MARK, "\n".join(_modules())) if MARK in markdown else markdown


def _modules() -> Iterator[str]:
    for path in sorted(CONTRIB.glob("*/__init__.py")):
        tree = ast.parse(path.read_text())
        if names := list(_exported(tree)):
            module = f"pipeline.contrib.{path.parent.name}"
            yield f"## {module}\n\n{ast.get_docstring(tree) or ''}\n"
            yield from (f"::: {module}.{name}" for name in names)


def _exported(tree: ast.Module) -> Iterator[str]:
    """The names in a module's `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            yield from ast.literal_eval(node.value)

"""Builds the tutorial's project as a reader does: chapter by chapter, each block of code in the file that it names."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from tests.helpers.page_code import TITLED

CHAPTERS = sorted((Path(__file__).parents[2] / "docs" / "tutorial").glob("[0-9]*.md"))


def follow(chapter: Path, project: Path) -> None:
    """Put the blocks of a chapter into the files of the project."""
    for name, code in TITLED.findall(chapter.read_text()):
        file = project / name
        begins_anew = code.startswith('"""') or not file.exists()
        file.write_text(code if begins_anew else merged(file.read_text(), code))


def merged(text: str, block: str) -> str:
    """Return a file with the definitions of a block: in the place of those of the same names, new ones beside them.

    An import takes the place of the one from the same module. A new definition stands after the block's one before it,
    or else before the block's next one that the file has.
    """
    parts, new = _parts(text), _parts(block)
    names = [_name(part) for part in parts]
    at: int | None = None
    for number, part in enumerate(new):
        name = _name(part)
        is_import = name.startswith("import ")
        if name in names:
            found = names.index(name)
            parts[found] = _gap(parts[found]) + part.lstrip("\n")
            at = None if is_import else found
            continue
        if is_import:
            at = next((n for n, each in enumerate(names) if _order(each) > _order(name)), len(parts))
        elif at is None:
            later = [names.index(each) for each in map(_name, new[number:]) if each in names]
            at = later[0] if later else len(parts)
        else:
            at += 1
        parts.insert(at, "\n\n" * (not is_import) + part.strip("\n") + "\n")
        names.insert(at, name)
        at = None if is_import else at
    return "".join(parts)


def _order(name: str) -> tuple[int, str]:
    """Return where an import stands: behind a docstring, before what is defined; standard modules first, own last."""
    if not name.startswith("import "):
        return (0, "") if name.startswith(("'", '"')) else (5, "")
    module = name.removeprefix("import ")
    root = module.partition(".")[0]
    own = root == "library"
    return 1 if root == "__future__" else 2 if root in sys.stdlib_module_names else 4 if own else 3, module


def _parts(text: str) -> list[str]:
    """Return the text in one part for each statement, with the comments and empty lines before it."""
    lines, parts, begin = text.splitlines(keepends=True), [], 0
    for statement in ast.parse(text).body:
        assert statement.end_lineno is not None
        parts.append("".join(lines[begin : statement.end_lineno]))
        begin = statement.end_lineno
    return parts


def _gap(part: str) -> str:
    """Return the comments and empty lines before a statement."""
    code = part.lstrip("\n")
    kept = part[: len(part) - len(code)]
    lines = code.splitlines(keepends=True)
    comments = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return kept + "".join(lines[:comments])


def _name(part: str) -> str:
    """Return what a statement defines, or the module that it imports from."""
    (statement,) = ast.parse(part).body
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return name
        case ast.ImportFrom(module=module):
            return f"import {module}"
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
    return ast.unparse(statement)

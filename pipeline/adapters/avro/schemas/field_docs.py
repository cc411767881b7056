"""What the author of a message class says of it and of its fields: docstrings, and comments behind the fields."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize

FOR_TOOLS = ("noqa", "type:", "pragma:", "pyright:", "fmt:", "nosec", "pylint:")


def class_doc(cls: type) -> str:
    """Return the docstring as one line; empty if there is none but a generated one."""
    doc = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    return "" if doc.startswith(f"{cls.__name__}(") else " ".join(doc.split())


def field_docs(cls: type) -> dict[str, str]:
    """Return the comment behind each field, or the string below it; nothing if the source is not at hand."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        found |= _own_docs(base)
    return found


def _own_docs(cls: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(cls))
        (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    except (OSError, TypeError, SyntaxError, ValueError):  # made at run time, or in an interactive session
        return {}
    comments = {
        token.start[0]: token.string.lstrip("#: ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node, below in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        text = comments.get(node.end_lineno or node.lineno, "")
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            text = " ".join(below.value.value.split())
        if text and not text.startswith(FOR_TOOLS):
            found[node.target.id] = text.partition("  # ")[0]
    return found

"""Small edits of a Python module, placed by its syntax tree: all else stays as it is, to the byte."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.errors import ScaffoldError

DECLARATION = "service"


class NotEditable(ScaffoldError):
    """A module is not written so that it can be edited safely. `line`: what its author has to add."""

    def __init__(self, why: str, line: str) -> None:
        super().__init__(why)
        self.line = line


@dataclass(frozen=True, slots=True)
class Module:
    """The source of a module. `where`: its path, for messages."""

    source: str
    where: str

    @property
    def tree(self) -> ast.Module:
        """The syntax tree of it. Raises ScaffoldError."""
        try:
            return ast.parse(self.source)
        except SyntaxError as error:
            raise ScaffoldError(f"{self.where} line {error.lineno}: {error.msg}; correct it first") from None

    def names(self) -> set[str]:
        """Return the names that it defines or imports at its top level."""
        found: set[str] = set()
        for node in self.tree.body:
            match node:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found.add(name)
                case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                    found |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
                case _:
                    found |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        return found

    def importing(self, module: str, names: Iterable[str]) -> Module:
        """Return it with `from module import names`, as far as that is not there."""
        imports = [node for node in self.tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        same = [
            node for node in imports if isinstance(node, ast.ImportFrom) and node.module == module and not node.level
        ]
        there = {alias.name for node in same for alias in node.names if alias.asname is None}
        missing = sorted(set(names) - there, key=_order)
        if not missing:
            return self
        for node in same:
            text = self._text(node)
            if "#" not in text and not any(alias.asname or alias.name == "*" for alias in node.names):
                wanted = sorted({alias.name for alias in node.names} | set(missing), key=_order)
                return self._with([(self._start(node), self._end(node), _import_line(module, wanted))])
        line = _import_line(module, missing)
        if imports:
            place = self._end(imports[-1])
            return self._with([(place, place, f"\n{line}")])
        first = self.tree.body[0] if self.tree.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):  # the docstring
            return self._with([(self._end(first), self._end(first), f"\n\n{line}")])
        return self._with([(0, 0, f"{line}\n\n")])

    def with_block(self, block: str) -> Module:
        """Return it with a block before the service's declaration, and before the comments just above it."""
        declared = self._declared("")
        lines = self.source.encode().splitlines(keepends=True)
        at = declared.lineno - 1
        while at > 0 and (not lines[at - 1].strip() or lines[at - 1].startswith(b"#")):
            at -= 1
        while at < declared.lineno - 1 and not lines[at].strip():
            at += 1
        place = len(b"".join(lines[:at]))
        return self._with([(place, place, block)])

    def with_part(self, parts: str, name: str) -> Module:
        """Return it with one more name in a list of the service, such as its `projections`. Raises NotEditable."""
        call = self._declared(f"{parts}=[..., {name}]").value
        assert isinstance(call, ast.Call)
        given = {each.arg: each for each in call.keywords}
        line = f"{parts}=[{name}]"
        if None in given or any(isinstance(arg, ast.Starred) for arg in call.args) or len(call.args) > 1:
            raise self._refusal("its arguments are not all given by name", line)
        if parts not in given:
            last: ast.AST | None = max((*call.args, *call.keywords), key=self._end, default=None)
            if last is None:
                raise self._refusal("it has no arguments", line)
            return self._with([(self._end(last), self._end(last), f", {line}")])
        value = given[parts].value
        if not isinstance(value, ast.List | ast.Tuple):
            raise self._refusal(f"its {parts} are no list that is written there", f"{parts}=[..., {name}]")
        if not value.elts:
            return self._with([(self._start(value), self._end(value), f"[{name}]")])
        return self._with([(self._end(value.elts[-1]), self._end(value.elts[-1]), f", {name}")])

    def _declared(self, line: str) -> ast.Assign | ast.AnnAssign:
        """Return the statement `service = Service(...)`. Raises NotEditable."""
        found: list[ast.Assign | ast.AnnAssign] = []
        for node in self.tree.body:
            targets: Sequence[ast.expr] = ()
            if isinstance(node, ast.Assign):
                targets = node.targets
            elif isinstance(node, ast.AnnAssign):
                targets = [node.target]
            if any(isinstance(each, ast.Name) and each.id == DECLARATION for each in targets):
                found.append(node)  # type: ignore[arg-type]
        if len(found) != 1 or not _is_service(found[0].value):
            raise self._refusal(f"it has no single statement {DECLARATION} = Service(...)", line)
        return found[0]

    def _refusal(self, why: str, line: str) -> NotEditable:
        return NotEditable(f"{self.where} cannot be edited safely: {why}", line)

    def _start(self, node: ast.AST) -> int:
        return self._offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]

    def _end(self, node: ast.AST) -> int:
        return self._offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def _offset(self, line: int, column: int) -> int:
        """Return a place in the source, in bytes, as the tree counts them."""
        return sum(len(each) for each in self.source.encode().splitlines(keepends=True)[: line - 1]) + column

    def _text(self, node: ast.AST) -> str:
        return self.source.encode()[self._start(node) : self._end(node)].decode()

    def _with(self, edits: Sequence[tuple[int, int, str]]) -> Module:
        data = self.source.encode()
        for start, end, text in sorted(edits, reverse=True):
            text = text.replace("\n", "\r\n") if b"\r\n" in data else text
            data = data[:start] + text.encode() + data[end:]
        changed = Module(data.decode(), self.where)
        assert changed.tree
        return changed


def _is_service(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] == "Service"


def _order(name: str) -> tuple[int, str]:
    """Return the sort key of an imported name: constants come first, then classes, as import sorters have it."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2), name.lower()


def _import_line(module: str, names: Sequence[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    return line if len(line) <= 120 else f"from {module} import (\n    " + ",\n    ".join(names) + ",\n)"

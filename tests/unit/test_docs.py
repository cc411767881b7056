"""The docs are so: their code runs, what they name exists, and one word stands for one thing."""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest

from pipeline import QueryClient
from pipeline.cli import COMMANDS, main
from pipeline.client import Client
from tests.bank.traffic import BANK
from topologies.inventory import Stock

ROOT = Path(__file__).parents[2]
MAKEFILES = (ROOT / "Makefile", ROOT / "pipeline" / "scaffold" / "templates" / "project" / "Makefile.template")
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
# Private words for things that docs/glossary.md has a word for. Each is a pattern, beside the word to use.
PRIVATE = {
    r"\btold\b": "reply, or the verb that fits",
    r"(?<!log )\blevel with\b|\bis level\b": "caught up",
    r"\bput(s|ting)? aside\b": "parked",
    r"\b(its|the) answers?\b": "reply; of a read: result",
    r"\bnobody here\b": "the subject: this topology, this worker",
    r"\bwho (waits|asks|reads|sends)\b": "the sender, the reader",
}


def test_the_topology_of_ones_own_and_its_test_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    namespace: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["service"]


def test_the_page_on_simulation_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "simulation.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    exec(compile("\n".join(blocks), "simulation.md", "exec"), {"__name__": "page"})


def test_the_page_on_time_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "time.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    exec(compile("\n".join(blocks), "time.md", "exec"), {"__name__": "page"})


def test_the_page_on_transactions_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "transactions.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    exec(compile("\n".join(blocks), "transactions.md", "exec"), {"__name__": "page"})


def test_the_invariant_on_the_page_on_topologies_finds_what_is_not_so() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "topologies.md").read_text(), re.DOTALL)
    namespace: dict[str, Any] = {"__name__": "page"}
    exec(compile(block, "topologies.md", "exec"), namespace)
    (invariant,) = namespace["invariants"]
    rows = {"inventory": {"TEA": Stock(on_hand=1), "POT": Stock(on_hand=-1)}}
    assert list(invariant.broken(rows)) == ["POT: -1 on hand"]


def test_the_page_on_uniqueness_says_what_the_shop_does() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "uniqueness.md").read_text(), re.DOTALL)
    users = (ROOT / "topologies" / "users.py").read_text()
    for line in block.splitlines():
        if line.startswith(("def ", "    return ")):
            assert line in users
    assert 'Unique("user_emails", value=same_email)' in block
    assert 'Unique("user_emails", value=same_email)' in users


def test_the_bank_has_each_type_that_the_page_on_topologies_names() -> None:
    page = (ROOT / "docs" / "topologies.md").read_text()
    table = page.partition("| Avro | in a message class |")[2].partition("\n\n")[0]
    named = {name for row in re.findall(r"^\| ([\w, ]+) \|", table, re.MULTILINE) for name in row.split(", ")}
    found: set[str] = set()

    def look(schema: Any) -> None:
        if isinstance(schema, list):
            found.add("union")
        for part in schema if isinstance(schema, list) else [schema]:
            found.add(part if isinstance(part, str) else part["type"])
            if isinstance(part, dict):
                inner = [field["type"] for field in part.get("fields", ())]
                for each in (*inner, *(part[name] for name in ("items", "values") if name in part)):
                    look(each)

    look(json.loads((BANK.schemas / "customers.row.avsc").read_text()))
    assert len(named) > 10
    assert named - found == set()


@pytest.mark.parametrize(("page", "client"), [("consistency", QueryClient), ("commands", Client)])
def test_the_page_names_each_method_of_the_clients(page: str, client: type) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    methods = {name for name in dir(client) if not name.startswith("_") and callable(getattr(client, name))}
    assert methods == set(re.findall(r"`(\w+)\(", "".join(re.findall(r"^\| (.*?) \|", text, re.MULTILINE))))


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def defined(path: Path) -> set[str]:
    """The classes, functions and methods of a module: `Task`, `Task.fold`, `checkpoint`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = (part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{part.name}" for part in inner}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_commands_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
        assert anchor in anchors((page.parent / target) if target else page), f"{target}#{anchor}"
    for name in re.findall(r"^ {4}\s*pipeline (\w[\w-]*)", text, re.MULTILINE):
        assert name in COMMANDS
    makefile = "".join(file.read_text() for file in MAKEFILES)
    for module in re.findall(r"python -m ((?:pipeline|benchmarks|tests)[\w.]*\w)", text):
        assert find_spec(module), module
    for target in re.findall(r"^\s*make ([\w-]+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    for name in re.findall(r"`((?:pipeline|topologies|tests|benchmarks|docs)/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_linked_file_defines_the_linked_name(page: Path) -> None:
    links = re.findall(r"\[`([\w.]+)`\]\(([^)#:]+\.py)\)", page.read_text())
    assert links or page.name != "internals.md"
    for name, target in links:
        if not name.endswith(".py"):
            assert name in defined((page.parent / target).resolve()), f"{target} defines no {name}"


def test_the_readme_names_every_folder() -> None:
    for path in (ROOT / "pipeline").iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert f"`pipeline/{path.name}`" in README, path.name


@pytest.mark.parametrize("index", [page for page in PAGES if page.name == "index.md"], ids=str)
def test_an_index_lists_every_page_of_its_folder(index: Path) -> None:
    listed = set(re.findall(r"\]\(([\w./-]+\.md)\)", index.read_text()))
    assert {page.name for page in index.parent.glob("*.md")} - {"index.md"} <= listed


def test_each_folder_of_pages_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for folder in {page.parent.name for page in ROOT.glob("docs/*/*.md")}:
        assert f"({folder}/index.md)" in index, folder


def test_each_word_of_the_glossary_is_used_in_another_page() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    words = re.findall(r"^\| \*\*([\w ]+)\*\*", glossary, re.MULTILINE)
    assert 25 <= len(words) == len(set(words))
    assert words == sorted(words)
    others = "\n".join(page.read_text() for page in PAGES if page.name not in {"glossary.md", "index.md"})
    for word in words:
        assert re.search(rf"\b{word}", others, re.IGNORECASE), word


def shown(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """The help texts of a command, its options and the commands below it, each with where it stands."""
    yield name, command.help or ""
    for option in command.params:
        yield f"{name} {option.name}", getattr(option, "help", None) or ""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            inner = command.get_command(context, below)
            assert inner is not None
            yield from shown(inner, f"{name} {below}")


def texts(node: ast.AST) -> str:
    return "".join(n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def messages() -> Iterator[tuple[str, str]]:
    """The texts of what pipeline/ raises and logs, each with where it stands."""
    for path in sorted(ROOT.glob("pipeline/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            said = isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log.")
            if said or isinstance(node, ast.Raise):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", texts(node)


def test_one_word_stands_for_one_thing() -> None:
    """In headings, help and messages: no private synonym of a word of the glossary."""
    headings = [
        (page.name, heading) for page in PAGES for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    ]
    found = [
        f"{where}: {text!r}: say {word}"
        for where, text in (*headings, *shown(main, "pipeline"), *COMMANDS.items(), *messages())
        for pattern, word in PRIVATE.items()
        if re.search(pattern, text)
    ]
    assert found == []

"""The README's code runs, and what it names exists."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pipeline import QueryClient
from pipeline.cli import COMMANDS
from pipeline.client import Client
from topologies.inventory import Stock

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md")]


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


@pytest.mark.parametrize(("page", "client"), [("consistency", QueryClient), ("commands", Client)])
def test_the_page_names_each_method_of_the_clients(page: str, client: type) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    methods = {name for name in dir(client) if not name.startswith("_") and callable(getattr(client, name))}
    assert methods == set(re.findall(r"`(\w+)\(", "".join(re.findall(r"^\| (.*?) \|", text, re.MULTILINE))))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_commands_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"^ {4}\s*pipeline (\w+)", text, re.MULTILINE):
        assert name in COMMANDS
    makefile = (ROOT / "Makefile").read_text()
    for module in re.findall(r"python -m ((?:pipeline|benchmarks|tests)[\w.]*\w)", text):
        assert find_spec(module), module
    for target in re.findall(r"^\s*make ([\w-]+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile

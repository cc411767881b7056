"""The documentation as a site: it is built without a warning, asks nothing of others, and its reference is complete."""

from __future__ import annotations

import html
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from pipeline.cli import main
from tests.helpers.browser import dom

ROOT = Path(__file__).parents[3]
PICTURE = '<pre class="mermaid">'
# The site with a Mermaid of the test's own; the hooks are modules of MkDocs, so it has to be told in its process.
BUILD = """
import sys
from pathlib import Path
from mkdocs.commands.build import build
from mkdocs.config import load_config
config = load_config("mkdocs.yml", site_dir=sys.argv[2], strict=True)
config.hooks["docs/hooks/mermaid.py"].KEPT = Path(sys.argv[1])
build(config)
"""
PUBLIC = ["pipeline", "pipeline.client", "pipeline.testing", "pipeline.errors"]
PUBLIC += [f"pipeline.contrib.{framework}" for framework in ("django", "fastapi")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with every warning as an error: a dead link or anchor, a page that the navigation lacks."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


def pages(site: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(site.rglob("*.html")):
        yield path, path.read_text()


def test_a_reader_without_a_network_reads_it(site: Path) -> None:
    """Scripts, styles and fonts are its own."""
    for path, text in pages(site):
        asked = re.findall(r'<(?:script|link|img)[^>]*\s(?:src|href)="(https?:[^"]*)"', text)
        assert asked == [], path


def test_each_picture_is_one(site: Path) -> None:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        made = (site / page.relative_to(ROOT / "docs").with_suffix(".html")).read_text()
        assert made.count('<pre class="mermaid">') == len(re.findall(r"^```mermaid$", page.read_text(), re.MULTILINE))


def hook(tmp_path: Path) -> Any:
    """The hook with Mermaid, which has not been fetched."""
    spec = importlib.util.spec_from_file_location("mermaid_hook", ROOT / "docs" / "hooks" / "mermaid.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    made.KEPT = tmp_path / "mermaid.js"
    return made


def test_a_page_with_a_picture_loads_mermaid_from_the_site_before_what_would_fetch_it(tmp_path: Path) -> None:
    mermaid, page = hook(tmp_path), SimpleNamespace(url="howto/saga.html")
    theirs = '<script src="../assets/javascripts/bundle.js"></script>'
    text = f'<script src="first.js"></script><pre class="mermaid">graph</pre>{theirs}'
    assert mermaid.on_post_page(text, page, None) == text, "it has not been fetched"
    mermaid.KEPT.write_text("")
    ours = '<script src="../assets/javascripts/mermaid.min.js"></script>'
    assert mermaid.on_post_page(text, page, None) == text.replace(theirs, ours + theirs)
    assert mermaid.on_post_page(theirs, page, None) == theirs, "it has no picture"


def test_a_machine_without_npm_builds_the_site_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mermaid = hook(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mermaid.fetch() == "there is no npm"
    mermaid.KEPT.write_text("")
    assert mermaid.fetch() == "", "it is there"


@pytest.mark.long
def test_pictures_are_drawn_without_a_network(tmp_path: Path) -> None:
    mermaid = hook(tmp_path)
    if why := mermaid.fetch():
        pytest.skip(f"NO PICTURE IS DRAWN: {why}")
    site = tmp_path / "site"
    command = [sys.executable, "-c", BUILD, str(mermaid.KEPT), str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    page = (site / "concepts.html").read_text()
    drawn = dom((site / "concepts.html").as_uri(), tmp_path, "--host-resolver-rules=MAP * ~NOTFOUND")
    assert page.count(PICTURE) > 1
    assert PICTURE not in drawn
    assert drawn.count('<div class="mermaid">') == page.count(PICTURE)


def test_a_link_out_of_the_docs_leads_to_the_file(site: Path) -> None:
    internals = (site / "internals.html").read_text()
    assert 'href="repository/pipeline/engine/loop/checkpoint.py.html"' in internals
    shown = (site / "repository" / "pipeline" / "engine" / "loop" / "checkpoint.py.html").read_text()
    assert "def</span><span" in shown.replace(" ", "")
    assert 'href="../topologies.html"' in (site / "repository" / "CHANGELOG.html").read_text()


def test_the_navigation_is_that_of_the_index_pages(site: Path) -> None:
    front = (site / "index.html").read_text()
    sections = ["Start", "How to", "Use", "Operate", "Understand", "Reference"]
    tabs = [tab.strip() for tab in re.findall(r'class="md-tabs__link[^"]*">([^<]+)<', front)]
    assert [tab for tab in tabs if tab != "Tutorial"] == sections
    places = [front.index(f'href="{page}.html" class="md-nav__link"') for page in ("topologies", "commands", "parking")]
    assert places == sorted(places)


def public_names(module: str) -> list[str]:
    """What a public module offers, by its `__all__`; pipeline.errors all that it defines."""
    loaded = importlib.import_module(module)
    own = [
        name for name, each in vars(loaded).items() if inspect.getmodule(each) is loaded and not name.startswith("_")
    ]
    return list(getattr(loaded, "__all__", own))


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_on_a_page_of_the_reference(site: Path, module: str) -> None:
    reference = "".join(text for path, text in pages(site) if path.parent.name == "reference")
    shown = set(re.findall(r'id="(pipeline[\w.]*)"', reference))
    names = public_names(module)
    assert names
    lacking = [name for name in names if not {f"{place}.{name}" for place in PUBLIC} & shown]
    assert lacking == [], f"add each to a page of docs/reference, as: ::: {module}.<name>"


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, click.Context(inner, info_name=name, parent=context))


def test_every_command_with_its_options_and_variables_is_on_the_page_of_the_command_line(site: Path) -> None:
    text = (site / "reference" / "commands.html").read_text()
    sections = {section.partition('"')[0]: html.unescape(section) for section in re.split(r'<h\d id="', text)[1:]}
    for path, command in commands(main, click.Context(main, info_name="pipeline")):
        section = sections[path.replace(" ", "-")]
        for param in command.params:
            named = [*param.opts, *param.secondary_opts] if isinstance(param, click.Option) else []
            assert [name for name in named if f"<code>{name}</code>" not in section] == [], path
            assert not isinstance(param.envvar, str) or f"<code>{param.envvar}</code>" in section, path
    assert len(sections) > 40

"""Makes the pages of docs/ a site: MkDocs hooks for what it reads otherwise than the repository's own page view.

Links to files outside docs/, such as README.md or a source file, lead to pages of the site that show these files. Lists
and tables are written as GitHub reads them, and brought into the form that Python-Markdown reads.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
SHOWN = "repository"  # the folder of the site with the files that are outside docs/
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)\s]*)?\)")
ITEM = re.compile(r"(?:- |\d+\. )")
PLAIN = re.compile(r"[^\s|#>`-]")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file outside docs/ to which a page links, and for those to which these link."""
    found: dict[str, str] = {}
    todo = [("docs/" + file.src_uri, file.content_string) for file in files.documentation_pages()]
    while todo:
        place, text = todo.pop()
        for target in _targets(place, text):
            if not target.startswith("docs/") and target not in found:
                found[target] = _shown(target)
                if target.endswith(".md"):
                    todo.append((target, found[target]))
    for target, text in found.items():
        files.append(File.generated(config, _page_of(target), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Have a page's links lead to pages of the site, and its lists and tables read as they are meant."""
    at = page.file.src_uri
    place = at.removeprefix(f"{SHOWN}/") if at.startswith(f"{SHOWN}/") else f"docs/{at}"

    def led(match: re.Match[str]) -> str:
        target = _resolved(place, match[1])
        if target is None or (place == f"docs/{at}" and target.startswith("docs/")):
            return match[0]
        return f"]({posixpath.relpath(_page_of(target), posixpath.dirname(at) or '.')}{match[2] or ''})"

    return "\n".join(_as_python_markdown(LINK.sub(led, markdown)))


def _targets(place: str, text: str) -> Iterator[str]:
    """The files to which a page of the repository links."""
    for match in LINK.finditer(text):
        if target := _resolved(place, match[1]):
            yield target


def _resolved(place: str, link: str) -> str | None:
    """The file of the repository that a link on the page `place` means; None if there is none."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(place), link))
    return None if target.startswith("..") or not (ROOT / target).exists() else target


def _page_of(target: str) -> str:
    """The page of the site that shows a file of the repository."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"{SHOWN}/{target}" if target.endswith(".md") else f"{SHOWN}/{target}.md"


def _shown(target: str) -> str:
    """The page of a file: Markdown as it is, a folder as the list of its files, anything else as code."""
    path = ROOT / target
    if path.is_dir():
        names = sorted(each.name for each in path.iterdir() if each.is_dir() or each.suffix in (".py", ".avsc"))
        return f"# {target}\n\n" + "\n".join(f"- `{name}`" for name in names if not name.startswith("__pyc"))
    text = path.read_text()
    if path.suffix == ".md":
        return text
    return f"---\nsearch: {{exclude: true}}\n---\n# {target}\n\n````{path.suffix.removeprefix('.')}\n{text}````\n"


def _as_python_markdown(markdown: str) -> Iterator[str]:
    """The lines of a page, with an empty one before each list, and with pipes in the code of tables as they are."""
    before, fenced = "", ""
    for line in markdown.split("\n"):
        if fence := re.match(r"\s*(`{3,})", line):
            fenced = "" if fenced and fence[1].startswith(fenced) else fenced or fence[1]
        elif not fenced:
            if ITEM.match(line) and PLAIN.match(before) and not ITEM.match(before):
                yield ""
            if line.startswith("|"):
                line = re.sub(r"`[^`]+`", lambda code: code[0].replace(r"\|", "|"), line)
        yield line
        before = line

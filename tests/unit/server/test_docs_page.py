"""The page /docs shows all that /openapi.json describes, in one piece, whatever is in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from pipeline.server.docs_page import docs_page
from pipeline.server.openapi import document
from tests.bank.traffic import BANK

VOID = {"meta", "td", "tr"}


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open += [] if tag in VOID else [tag]
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Page:
    page = Page()
    page.feed(text)
    assert page.open == []
    return page


def test_each_operation_and_schema_is_on_it_and_all_links_are_to_itself_or_this_worker() -> None:
    told = document(BANK)
    page = read(docs_page(told).decode())
    for path, methods in told["paths"].items():
        assert path in page.text
        for operation in methods.values():
            assert operation["summary"] in page.text
    ids = set(re.findall(r'id="([^"]+)"', docs_page(told).decode()))
    assert ids == set(told["components"]["schemas"])
    for link in page.links:
        assert link in {"openapi.json", "v1/tables", "v1/status", "metrics"} or link.removeprefix("#") in ids


def test_text_of_an_author_is_text() -> None:
    told = document(BANK)
    name = next(iter(told["paths"]))
    hostile = "</pre><script>alert(1)</script>"
    told["info"]["title"] = hostile
    next(iter(told["paths"][name].values()))["summary"] = hostile
    told["components"]["schemas"]["Hostile"] = {"description": hostile, "$ref": "#/components/schemas/Problem"}
    page = docs_page(told).decode()
    assert "<script>" not in page
    assert '<a href="#Problem">Problem</a>' in page
    assert read(page).text.count(hostile) == 4, "the title twice, the summary and the description"

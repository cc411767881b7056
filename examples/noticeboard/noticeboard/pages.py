"""The pages service: owns no aggregate; keeps what the web pages show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline import Projection, Service, Source

# --- what it follows -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoticePosted:
    number: int
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class NoticeRemoved:
    number: int


Event = NoticePosted | NoticeRemoved
BOARDS = Source("boards.event", Event)

# --- the page of a board, keyed like the board ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Notice:
    number: int
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    notices: tuple[Notice, ...] = ()  # the latest first


def evolve_page(page: Page, event: Event) -> Page:
    match event:
        case NoticePosted(number, author, text):
            return Page((Notice(number, author, text), *page.notices))
        case NoticeRemoved(number):
            return Page(tuple(each for each in page.notices if each.number != number))


pages = Projection("pages", sources=[BOARDS], initial=Page(), evolve=evolve_page)

# --- authors, keyed by their names ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wrote:
    board: str


@dataclass(frozen=True, slots=True)
class Author:
    notices: int = 0
    last_board: str = ""


def by_author(board: str, event: Event) -> Iterator[tuple[str, Wrote]]:
    if isinstance(event, NoticePosted):
        yield event.author, Wrote(board)


def evolve_author(author: Author, message: Wrote) -> Author:
    return Author(author.notices + 1, message.board)


authors = Projection("authors", sources=[BOARDS], initial=Author(), evolve=evolve_author, by_key=Wrote, route=by_author)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("pages", projections=[pages, authors])

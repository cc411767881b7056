"""The boards service: owns which notices hang on each board."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline import Aggregate, Rejected, Service

NOTICES_MAX, TEXT_MAX = 50, 500

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PostNotice:
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class RemoveNotice:
    number: int


Command = PostNotice | RemoveNotice

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoticePosted:
    number: int
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class NoticeRemoved:
    number: int


Event = NoticePosted | NoticeRemoved

# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Board:
    last: int = 0
    hanging: tuple[int, ...] = ()


# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, board: Board) -> list[Event] | Rejected:
    match command:
        case PostNotice(author, text) if not author.strip() or not text.strip():
            return Rejected("empty")
        case PostNotice(author, text) if len(author) + len(text) > TEXT_MAX:
            return Rejected("too_long", {"most": str(TEXT_MAX)})
        case PostNotice() if len(board.hanging) >= NOTICES_MAX:
            return Rejected("board_full", {"most": str(NOTICES_MAX)})
        case PostNotice(author, text):
            return [NoticePosted(board.last + 1, author, text)]
        case RemoveNotice(number) if number not in board.hanging:
            return Rejected("no_such_notice")
        case RemoveNotice(number):
            return [NoticeRemoved(number)]


def evolve(board: Board, event: Event) -> Board:
    match event:
        case NoticePosted(number):
            return Board(number, (*board.hanging, number))
        case NoticeRemoved(number):
            return replace(board, hanging=tuple(each for each in board.hanging if each != number))


boards = Aggregate("boards", command=Command, event=Event, initial=Board(), decide=decide, evolve=evolve)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("boards", aggregates=[boards])

"""What is decided on a board."""

import pytest

from noticeboard.boards import NOTICES_MAX, Board, NoticePosted, NoticeRemoved, PostNotice, RemoveNotice, boards
from pipeline import Rejected
from pipeline.testing import given


def test_notices_are_numbered_and_removed_by_their_numbers() -> None:
    first, second = NoticePosted(1, "anna", "a lamp"), NoticePosted(2, "berta", "a chair")
    given(boards, first).when(PostNotice("berta", "a chair")).then(second).has(Board(2, (1, 2)))
    given(boards, first, second).when(RemoveNotice(1)).then(NoticeRemoved(1)).has(Board(2, (2,)))
    given(boards, first, NoticeRemoved(1)).when(RemoveNotice(1)).then(Rejected("no_such_notice"))


@pytest.mark.parametrize("command", [PostNotice("", "a lamp"), PostNotice("anna", " ")])
def test_a_notice_has_an_author_and_a_text(command: PostNotice) -> None:
    given(boards).when(command).then(Rejected("empty"))


def test_a_board_has_an_end() -> None:
    full = [NoticePosted(n + 1, "anna", "a lamp") for n in range(NOTICES_MAX)]
    refused = Rejected("board_full", {"most": str(NOTICES_MAX)})
    given(boards, *full).when(PostNotice("anna", "one more")).then(refused)
    given(boards).when(PostNotice("anna", "x" * 500)).then(Rejected("too_long", {"most": "500"}))

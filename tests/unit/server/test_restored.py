"""Tokens of before a restore are refused, as what they stand for may be missing; those of now are taken."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pipeline.errors import ForeignToken
from pipeline.model import Token
from pipeline.server.reads.consistency import Consistency

OF_NOW = Token("pipeline.restored.5f3a/0@0,users.command/3@77")
OF_BEFORE = Token("users.command/3@77")


def consistency(mark: str) -> Consistency:
    nothing = cast(Any, None)
    return Consistency(nothing, nothing, nothing, mark)


def test_a_restored_cluster_takes_its_own_tokens_alone() -> None:
    here = consistency("5f3a")
    assert here.marked({("users.command", 3): 77}) == OF_NOW
    assert here.unmarked(OF_NOW) == {("users.command", 3): 77}
    assert here.unmarked(Token()) == {}
    for other in (OF_BEFORE, Token(OF_NOW.replace("5f3a", "beef")), OF_NOW | OF_NOW.replace("5f3a", "beef")):
        with pytest.raises(ForeignToken, match=r"not of this cluster since it was restored.*Read without it"):
            here.unmarked(other)


def test_a_cluster_that_never_was_restored_does_not_take_tokens_of_one() -> None:
    here = consistency("")
    assert here.marked({("users.command", 3): 77}) == OF_BEFORE
    assert here.unmarked(OF_BEFORE) == {("users.command", 3): 77}
    with pytest.raises(ForeignToken, match="as it never was restored"):
        here.unmarked(OF_NOW)

"""What is said beside other projects can be seen: each row of the table has a command that can be typed."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.cli.test_cures import typed

PAGE = (Path(__file__).parents[3] / "docs" / "compared.md").read_text()
ROWS = [
    line.strip("|").split(" | ") for line in re.findall(r"^\| \w[^|]*: .*\|$", PAGE.partition("\n## ")[0], re.MULTILINE)
]


def test_each_claim_has_a_command_that_shows_it() -> None:
    assert len(ROWS) >= 15
    for asked, here, seen in ROWS:
        shown = re.findall(r"`(pipeline [^`]+)`", seen)
        assert shown, asked
        assert [f"{line}: {problem}" for line in shown if (problem := typed(line))] == []
        assert here.strip()


def test_each_question_to_one_project_says_where_it_was_asked() -> None:
    for asked, _, _ in ROWS:
        assert asked.strip().startswith("all: ") or re.search(r"\]\(https://[^)]+\)", asked), asked

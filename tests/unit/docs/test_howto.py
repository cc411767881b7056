"""The how-to pages are so: each is a project, and its tests pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.page_code import files_of, project_of, run_tests

PAGES = sorted((Path(__file__).parents[3] / "docs" / "howto").glob("*.md"))


@pytest.mark.parametrize("page", [page for page in PAGES if files_of(page)], ids=lambda page: page.stem)
def test_the_project_of_the_page_passes_its_tests(page: Path, tmp_path: Path) -> None:
    with project_of(page, tmp_path):
        assert run_tests()


def test_most_pages_are_projects() -> None:
    assert len([page for page in PAGES if files_of(page)]) >= 8

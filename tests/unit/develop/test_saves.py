"""Saves of a project's files are seen however an editor writes, and only those that matter."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.develop.saves import Project, Saves, project_of
from tests.helpers.support import until


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.toml").write_text("")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "users.py").write_text("a = 1\n")
    (tmp_path / "shop" / "orders.py").write_text("a = 1\n")
    for folder in ("tests", ".venv", ".pipeline", "env", "node_modules", "home"):
        (tmp_path / folder).mkdir()
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    return tmp_path


@pytest.fixture
def saves(project: Path) -> Iterator[Saves]:
    made = Saves(Project.around(project / "shop", project / "home"))
    yield made
    made.close()


def seen(saves: Saves, project: Path, *names: str) -> None:
    found: set[str] = set()

    def look() -> bool:
        found.update(str(path.relative_to(project)) for path in saves.wait(0.1))
        return found >= set(names)

    until(f"{names} are seen", look, 20)
    assert found == set(names)


def test_a_save_in_place(saves: Saves, project: Path) -> None:
    (project / "shop" / "users.py").write_text("a = 22\n")
    seen(saves, project, "shop/users.py")


def test_a_save_that_changes_no_letter_counts(saves: Saves, project: Path) -> None:
    time.sleep(0.01)  # the clock of some file systems is coarse
    (project / "shop" / "users.py").write_text("a = 1\n")
    seen(saves, project, "shop/users.py")


def test_a_file_that_is_written_beside_and_renamed(saves: Saves, project: Path) -> None:
    beside = project / "shop" / "users.py~"
    beside.write_text("a = 3\n")
    beside.replace(project / "shop" / "users.py")
    seen(saves, project, "shop/users.py")


def test_a_file_that_is_deleted_and_one_that_is_new(saves: Saves, project: Path) -> None:
    (project / "shop" / "users.py").unlink()
    (project / "shop" / "stock.py").write_text("")
    seen(saves, project, "shop/users.py", "shop/stock.py")


def test_a_new_directory_is_seen_and_then_watched(saves: Saves, project: Path) -> None:
    (project / "common").mkdir()
    (project / "common" / "money.py").write_text("")
    seen(saves, project, "common/money.py")
    (project / "common" / "money.py").write_text("a = 2\n")
    seen(saves, project, "common/money.py")


def test_several_files_at_once_are_one_change(saves: Saves, project: Path) -> None:
    names = [f"shop/part{n}.py" for n in range(50)]
    for name in names:
        (project / name).write_text("")
    changed = until("they are seen", lambda: saves.wait(0.1), 20)
    assert sorted(str(path.relative_to(project)) for path in changed) == sorted(names)


def test_what_does_not_count_is_not_seen(saves: Saves, project: Path) -> None:
    for folder in (".venv", ".pipeline", "env", "node_modules", "home"):
        (project / folder / "x.py").write_text("")
    for name in ("shop/users.pyc", "shop/.users.py.swp", "shop/notes.txt"):
        (project / name).write_text("")
    (project / "shop" / "orders.py").write_text("a = 4\n")  # the last, so what came before has been seen, or is not
    seen(saves, project, "shop/orders.py")


def test_tests_are_told_from_the_rest(tmp_path: Path) -> None:
    project = Project((tmp_path / "tests" / "here",), tmp_path / "home")
    inside = tmp_path / "tests" / "here"
    for name in ("tests/helpers.py", "test_users.py", "shop/users_test.py", "conftest.py", "shop/test/x.py"):
        assert project.is_test(inside / name), name
    for name in ("shop/users.py", "contest.py", "testing.py"):
        assert not project.is_test(inside / name), name


def test_the_project_of_a_topology(project: Path) -> None:
    assert project_of(project / "shop") == project
    assert project_of(project / "shop" / "users.py") == project


def test_of_a_very_large_directory_the_package_alone_is_watched(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.develop.saves.FOLDERS_MAX", 2)
    (project / "common").mkdir()
    (project / "data").mkdir()
    assert Project.around(project / "shop", project / "home").tops == (project / "shop", project / "schemas")

"""The tutorial is so: its project grows chapter by chapter, and after each one its tests pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers.tutorial import CHAPTERS, follow, merged

FRESH = "2-rules"  # the chapter that has readers forget what was before


ROOT = Path(__file__).parents[3]


def run(project: Path, *arguments: str) -> str:
    command, paths = [sys.executable, "-m", *arguments], {"PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=project, env={**os.environ, **paths}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_after_each_chapter_the_projects_tests_pass(tmp_path: Path) -> None:
    run(tmp_path, "pipeline", "new", "library", "--service", "books", "--pipeline-from", "published")
    project = tmp_path / "library"
    assert [chapter.stem[0] for chapter in CHAPTERS] == list("12345678")
    for chapter in CHAPTERS:
        follow(chapter, project)
        if chapter.stem == FRESH:
            shutil.rmtree(project / "schemas")
        run(project, "pipeline", "schemas", "generate", "library")
        run(project, "pipeline", "schemas", "register")
        assert " passed" in run(project, "pytest", "-q", "-p", "no:cacheprovider"), chapter
    run(project, "pipeline", "schemas", "check", "library")
    for line in re.findall(r"^    ruff (.*)$", CHAPTERS[-1].read_text(), re.MULTILINE):  # empty lines, order of imports
        run(project, "ruff", *line.split())
    run(project, "ruff", "check", ".")
    run(project, "mypy")


def test_a_block_goes_into_its_file() -> None:
    file = "from a import b\n\n# --- one\n\nX = 1\n\n\ndef f():\n    return X\n"
    block = "from a import b, c\n\n\nY = 2\n\n\ndef f():\n    return X + Y\n"
    assert merged(file, block) == (
        "from a import b, c\n\n# --- one\n\nX = 1\n\n\nY = 2\n\n\ndef f():\n    return X + Y\n"
    )

"""`pipeline schemas generate`: from classes to files, and what it says if they differ."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import main
from tests.unit.adapters.test_generation import OWN


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A topology in a file; nothing that is imported from it stays."""
    monkeypatch.setattr("sys.path", [*sys.path])
    path = tmp_path / "own.py"
    path.write_text(OWN)
    yield path
    sys.modules.pop("own", None)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["schemas", *map(str, arguments)])


def test_from_classes_to_schemas_that_agree_with_them(own: Path) -> None:
    first = run("generate", own)
    assert first.exit_code == 0, first.output
    assert f"wrote {own.parent / 'schemas' / 'accounts.command.avsc'}" in first.output
    assert run("register", "--schemas", own.parent / "schemas").exit_code == 0
    assert run("check", own).exit_code == 0
    again = run("generate", own, "--check")
    assert (again.exit_code, again.output) == (0, "all 4 schemas are as the classes have them\n")


def test_a_check_shows_what_differs_and_writes_nothing(own: Path) -> None:
    run("generate", own)
    before = (own.parent / "schemas" / "accounts.command.avsc").read_text()
    own.write_text(OWN.replace("amount: int  # cents", "cents: int"))
    told = run("generate", own, "--check")
    assert told.exit_code == 1
    lines = [line.split() for line in told.output.splitlines()]
    assert ["-", '"name":', '"amount",'] in lines
    assert ["+", '"name":', '"cents",'] in lines
    assert "1 of 4 schemas differ from the classes; write them with: pipeline schemas generate" in told.output
    assert (own.parent / "schemas" / "accounts.command.avsc").read_text() == before


def test_a_file_that_is_no_json_is_named(own: Path) -> None:
    run("generate", own)
    (own.parent / "schemas" / "accounts.command.avsc").write_text("{")
    told = run("generate", own)
    assert told.exit_code != 0
    assert "accounts.command.avsc is not JSON" in told.output
    assert "Traceback" not in told.output

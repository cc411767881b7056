"""A project as its author has it: each kind of part added, its own tests, checks, and its demo on a real Kafka."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.request import urlopen

import pytest

from pipeline.broker import local
from tests.helpers.projects import AS_INSTALLED, call, elsewhere, run

ADDED = (
    "service cars",
    "aggregate bikes --service cars",
    "aggregate boats",
    "projection room_days --of rooms",
    "projection car_days --of cars --service reports",
    "replica known_rooms --of rooms --service cars",
    "reaction cars_follow_rooms --of rooms --to cars",
    "projection known_cars --of cars --service rooms",
    "saga trip --over rooms --over bikes",
)
# Names that make lines too long, or words of Python of their singulars.
LONG = "very_long_names_of_very_many_thing_s"


pytestmark = pytest.mark.long  # a broker, and a process at each step


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    with elsewhere(folder):
        assert call("new", "my-shop", "--path", "shop").exit_code == 0
    with elsewhere(folder / "shop"):
        for each in (*ADDED, f"aggregate {LONG} --service rooms", "service classes"):
            result = call("add", *each.split())
            assert result.exit_code == 0, result.output
            assert "make test" in result.output
    return folder / "shop"


def test_its_own_tests_are_green(project: Path) -> None:
    said = run(project, "make", *AS_INSTALLED, "test")
    found = re.search(r"^(\d+) passed in", said, re.MULTILINE) or re.search(r"= (\d+) passed", said)
    assert found
    assert int(found[1]) > 35


def test_its_own_check_is_green(project: Path) -> None:
    said = run(project, "make", *AS_INSTALLED, "check")
    assert "Success: no issues found" in said  # mypy, strict
    assert "All checks passed!" in said  # ruff
    assert "schemas are as the classes have them" in said
    assert "cars: classes and schemas agree" in said
    assert "register it with" not in said


def test_its_demo_shows_a_row_over_http_and_leaves_nothing_running(project: Path) -> None:
    said = run(project, "make", *AS_INSTALLED, "demo")
    (row,) = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert row["row"] == {"times": 1, "last_by": "anna"}
    assert "taken" in said
    assert said.index("$ pipeline broker up") < said.index("$ pipeline worker my_shop") < said.index("$ curl")
    assert max(map(len, said.splitlines())) <= 200
    assert local.find(project / ".pipeline" / "demo" / "broker") is None
    with pytest.raises(OSError, match="refused"):
        urlopen(re.search(r"\$ curl '(.*)'", said)[1], timeout=10)  # type: ignore[index]

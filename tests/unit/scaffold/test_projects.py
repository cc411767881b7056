"""`pipeline new` and `pipeline add`: what they write, what they refuse, and that a refusal writes nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.scaffold import kinds
from pipeline.scaffold.adding import Part
from pipeline.scaffold.origin import origin
from pipeline.scaffold.project import is_formatted
from tests.helpers.projects import ROOT, call, elsewhere
from tests.unit.cli.test_cures import run_in, typed


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with elsewhere(tmp_path):
        yield tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with elsewhere(tmp_path_factory.mktemp("made")):
        assert call("new", "shop").exit_code == 0
        return Path("shop").resolve()


@pytest.fixture
def project(made: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, place / "shop")
    monkeypatch.chdir(place / "shop")
    return place / "shop"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(*arguments: str, code: int = 2) -> str:
    result = call(*arguments)
    assert result.exit_code == code, result.output
    assert "error: " in result.output or "Error: " in result.output
    return result.output


def test_new_says_what_it_has_made_and_what_is_next(place: Path) -> None:
    said = call("new", "my-shop", "--service", "desks").output
    assert {each for each in files(place / "my-shop") if not each.endswith(".avsc")} == {
        *(".dockerignore", ".gitignore", ".github/workflows/ci.yml", "Dockerfile", "Makefile", "README.md"),
        *("compose.yaml", "demo.py", "my_shop/__init__.py", "my_shop/desks.py", "pipeline.toml", "pyproject.toml"),
        *("schemas/manifest.json", "tests/test_desks.py"),
    }
    assert (place / "my-shop" / "schemas" / "desk_use.row.avsc").exists()
    assert f"depends on {ROOT}" in said  # these tests run from a checkout
    assert "cd my-shop\n" in said
    assert max(map(len, said.splitlines())) <= 120


def test_new_takes_an_empty_folder_and_no_other(place: Path) -> None:
    (place / "here").mkdir()
    (place / "full").mkdir()
    (place / "full" / "a.txt").write_text("mine")
    (place / "file").touch()
    assert call("new", "shop", "--path", "here").exit_code == 0
    assert "full is not empty: it has a.txt" in refused("new", "shop", "--path", "full")
    assert "file is a file" in refused("new", "shop", "--path", "file")
    assert files(place / "full") == {"a.txt": b"mine"}


@pytest.mark.parametrize(
    "arguments", [("Shop",), ("shop", "--service", "list"), ("shop", "--pipeline-from", "nowhere")]
)
def test_what_new_refuses_leaves_nothing(place: Path, arguments: tuple[str, ...]) -> None:
    refused("new", *arguments)
    assert list(place.iterdir()) == []


def test_a_project_that_cannot_be_finished_is_deleted_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.scaffold.creating.make_schemas", lambda *_: 1 / 0)
    (place / "here").mkdir()
    for path in ("here", "there"):
        with pytest.raises(AssertionError, match="ZeroDivisionError"):
            call("new", "shop", "--path", path)
    assert [each.name for each in place.rglob("*")] == ["here"]


def test_where_the_package_comes_from(tmp_path: Path) -> None:
    wheel = tmp_path / "a b" / "kafka_pipeline-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()
    extras = "kafka-pipeline[broker,testing,develop]"
    assert origin(None).requirement == origin(str(ROOT)).requirement == f"{extras} @ {ROOT.as_uri()}"
    assert origin("published").requirement.startswith(f"{extras}>=")
    assert origin(str(wheel)).requirement == f"{extras} @ file://{tmp_path}/a%20b/{wheel.name}"
    assert origin(wheel.as_uri()) == origin(str(wheel))
    assert origin("git+https://example.org/p.git@1").requirement == f"{extras} @ git+https://example.org/p.git@1"


def test_add_needs_a_project(place: Path) -> None:
    assert "there is no pipeline.toml with a topology" in refused("add", "service", "cars")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("service", "rooms"), "is there already, in the service 'rooms'"),
        (("aggregate", "room_use"), "is there already, in the service 'rooms'"),
        (("aggregate", "cars", "--service", "Garage"), "cannot name a service"),
        (("projection", "x", "--of", "cars"), "there is no aggregate 'cars'; there are rooms"),
        (("projection", "rooms"), "is there already"),
        (("replica", "x"), "there is no service beside 'rooms' that could follow it"),
        (("replica", "x", "--of", "rooms", "--service", "rooms"), "a replica is a service's copy of another's data"),
        (("reaction", "x"), "say what it follows with --of AGGREGATE"),
        (("reaction", "x", "--to", "rooms"), "has no aggregate; add one with: pipeline add service NAME"),
        (("saga", "trip"), "needs two aggregates that can be reserved and released, and there is 1"),
        (("saga", "trip", "--over", "rooms"), "name two with --over A --over B"),
        (("saga", "trip", "--over", "rooms", "--over", "cars"), "there is no aggregate 'cars'"),
        (("service", "room"), "'room_use' is there already"),
    ],
)
def test_what_add_refuses_changes_nothing(project: Path, arguments: tuple[str, ...], why: str) -> None:
    before = files(project)
    assert why in refused("add", *arguments).replace("\n", " ")
    assert files(project) == before


def test_a_file_that_is_there_is_not_written_over(project: Path) -> None:
    (project / "tests" / "test_cars.py").write_text("mine = 1\n")
    before = files(project)
    assert "tests/test_cars.py is there already" in refused("add", "service", "cars")
    (project / "shop" / "bikes.py").write_text("mine = 1\n")
    assert "shop/bikes.py is there already" in refused("add", "service", "bikes")
    assert files(project) == before | {"shop/bikes.py": b"mine = 1\n"}


def test_a_service_that_cannot_be_edited_safely_stays_and_the_line_to_add_is_said(project: Path) -> None:
    module = project / "shop" / "rooms.py"
    source = module.read_text().replace("projections=[room_use]", "projections=list([room_use])")
    module.write_text(source)
    before = files(project)
    said = refused("add", "projection", "days", code=1)
    assert "Add to it by hand: projections=[..., days]" in said
    assert files(project) == before


def test_a_project_that_does_not_load_is_not_added_to(project: Path) -> None:
    module = project / "shop" / "rooms.py"
    module.write_text(module.read_text() + "\nraise ValueError('mine')\n")
    before = files(project)
    assert "cannot be loaded: ValueError: mine" in refused("add", "service", "cars")
    assert files(project) == before


def test_if_it_does_not_load_with_what_was_added_all_is_as_before(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "Part", lambda block, *rest: Part(f"{block}\n1 / 0\n", *rest))
    before = files(project)
    assert "ZeroDivisionError" in refused("add", "projection", "days")
    assert files(project) == before


def test_only_what_is_added_changes_in_an_edited_module(project: Path) -> None:
    module = project / "shop" / "rooms.py"
    source = module.read_text().replace("return Rejected('empty_name')", "return   Rejected('empty_name')  # häßlich")
    source += "x = {  'a' :1}\n"  # not as ruff formats it: an author's own layout stays
    module.write_text(source)
    assert call("add", "projection", "days").exit_code == 0
    after = module.read_text()
    lines = iter(after.splitlines())
    kept = [line for line in source.splitlines() if not line.startswith(("service = ", "from pipeline import"))]
    assert all(line in lines for line in kept)  # all of them, in their order
    assert "projections=[room_use, days])" in after


def test_each_command_that_a_project_shows_can_be_typed(made: Path) -> None:
    shown = list(run_in((made / "README.md").read_text()))
    services = yaml.safe_load((made / "compose.yaml").read_text())["services"]
    shown += [" ".join(services[name]["command"]) for name in ("topics", "worker")]
    shown.append(" ".join(json.loads((made / "Dockerfile").read_text().rpartition("CMD ")[2])))
    assert len(shown) > 6
    assert [f"{line}: {problem}" for line in shown if (problem := typed(re.sub(r"(--[\w-]+)=", r"\1 ", line)))] == []


def test_its_workflow_runs_what_its_makefile_has(made: Path) -> None:
    steps = yaml.safe_load((made / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["test"]["steps"]
    targets = [step["run"].split()[1] for step in steps if "run" in step]
    assert targets == ["install", "check", "test"]
    makefile = (made / "Makefile").read_text()
    assert all(f"\n{target}: " in makefile for target in targets)


# What `pipeline` does for the demo after a change of the rules: the command is another, or the table.
CHANGED = """
import http.server, pathlib, sys

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/v1/status" else 404)
        self.end_headers()

match sys.argv[2:]:
    case ["broker", "up", *_]:
        pathlib.Path(".pipeline/demo").mkdir(parents=True)
    case ["worker", *_, port]:
        http.server.HTTPServer(("127.0.0.1", int(port)), Page).serve_forever()
    case ["send", _, _, kind, fields, *_]:
        sys.exit(2 if kind == sys.argv[1] else int("bob" in fields))
"""


@pytest.mark.parametrize(
    ("unknown", "why"),
    [
        ("ReserveRoom", "pipeline send ended with 2, not with 0; change COMMANDS in demo.py with your rules"),
        ("", "there is no row room_use/12: HTTP Error 404: Not Found; change ROW in demo.py with your projections"),
    ],
)
def test_a_demo_of_other_rules_than_the_authors_says_what_to_change(project: Path, unknown: str, why: str) -> None:
    (project / "changed.py").write_text(CHANGED)
    demo = f"import demo, sys; demo.PIPELINE = [sys.executable, 'changed.py', {unknown!r}]; demo.main()"
    ran = subprocess.run(
        [sys.executable, "-c", demo],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stdout.rstrip().endswith(f"demo: {why}\n\nAll that was started is ended."), "why comes before the end"


RICH = (
    "    price: Annotated[Decimal, Precision(9, 2)] = Decimal(0)\n"
    "    at: datetime | None = None\n"
    "    visit: UUID = UUID(int=0)\n"
    "    tags: tuple[str, ...] = ()\n"
)
RICH_IMPORTS = (
    "from datetime import datetime\nfrom decimal import Decimal\nfrom typing import Annotated\nfrom uuid import UUID\n"
    "\nfrom pipeline import Precision, "
)


def enrich(module: Path) -> None:
    """Give the events of the rooms fields of many types."""
    source = module.read_text().replace(
        "class RoomReserved:\n    by: str\n", f"class RoomReserved:\n    by: str\n{RICH}"
    )
    source = source.replace("class RoomReleased:\n    by: str\n", f"class RoomReleased:\n{RICH}")
    for given in ("state.by", "command.by"):
        source = source.replace(f"RoomReleased({given})", "RoomReleased()")
    module.write_text(source.replace("from pipeline import ", RICH_IMPORTS, 1))


@pytest.mark.parametrize("service", ["cars", "bikes"])
def test_a_follower_takes_over_plain_values_and_names_what_it_leaves_out(project: Path, service: str) -> None:
    enrich(project / "shop" / "rooms.py")
    if service == "cars":
        assert call("add", "service", "cars").exit_code == 0
    assert call("add", "replica", "known_rooms", "--of", "rooms", "--service", service).exit_code == 0
    made = (project / "shop" / f"{service}.py").read_text()
    left = "    # Left out, .*\n    # as their owner declares them \\(schemas/rooms.event.avsc\\):\n    #   tags\n"
    taken = RICH.replace(" = Decimal(0)", "").replace(" = None", "").replace(" = UUID(int=0)", "").splitlines()[:3]
    kept = re.escape("".join(f"{line}\n" for line in taken))
    assert re.search(f"class RoomReserved:\n    by: str\n{kept}{left}", made), made
    assert re.search(f"class RoomReleased:\n{kept}{left}", made), made
    for line in RICH_IMPORTS.split("\n\n")[0].splitlines():
        assert f"{line}\n" in made
    assert is_formatted(project / "shop" / f"{service}.py")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_known_rooms.py"],
        cwd=project, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "2 passed" in ran.stdout, ran.stdout


def test_a_follower_leaves_out_what_its_module_calls_otherwise(project: Path) -> None:
    enrich(project / "shop" / "rooms.py")
    assert call("add", "service", "cars").exit_code == 0
    cars = project / "shop" / "cars.py"
    cars.write_text(
        cars.read_text().replace("from dataclasses", "import datetime\nfrom dataclasses", 1)
        + "\nDAY = datetime.timedelta(1)\n"
    )
    assert call("add", "replica", "known_rooms", "--of", "rooms", "--service", "cars").exit_code == 0
    assert re.search(r"    visit: UUID\n    # Left out.*\n.*\n    #   at\n    #   tags\n", cars.read_text())

"""`pipeline schemas`: what breaks is said, and not registered unless it is forced."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.adapters.avro.registry import ENGINE, Level, Registry
from pipeline.adapters.avro.schemas.compatibility import DEFAULT, breaks, findings
from pipeline.adapters.avro.wire.identity import schema_id
from pipeline.cli import main
from pipeline.errors import SchemaError
from tests.helpers.schema_changes import record, x, y
from tests.helpers.till import TILL

ROOT = Path(__file__).parents[3]
FIRST = record("Row", x("int"))
ID = schema_id(FIRST)
WITH_DEFAULT = record("Row", x("int"), y("string", default=""))
WITHOUT = record("Row", x("int"), y("string"))


@pytest.fixture(autouse=True)
def schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with a service `mine`, and the first version of a topic `a.row`."""
    (tmp_path / "small_shop.py").write_text("from pipeline import Service\nservice = Service('mine')\n")
    (tmp_path / "schemas").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    write(FIRST)
    call("schemas", "register")
    yield tmp_path / "schemas"
    sys.modules.pop("small_shop", None)


def write(schema: Any, topic: str = "a.row") -> None:
    (Path("schemas") / f"{topic}.avsc").write_text(json.dumps(schema))


def call(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result


def manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("schemas/manifest.json").read_text())
    return found


def set_level(level: Any, topic: str = "a.row") -> None:
    Path("schemas/manifest.json").write_text(json.dumps(manifest() | {"levels": {topic: level}}))


def test_what_breaks_is_named_with_its_cure_and_nothing_is_registered() -> None:
    write(WITHOUT)
    write(FIRST, "b.row")
    before = manifest()
    for arguments in (("check", "small_shop"), ("register",)):
        told = call("schemas", *arguments, code=1)
        assert f"a.row: records of version 1 (id {ID}) cannot be read" in told.stdout
        assert "Row.y: was absent; is string without a default" in told.stdout
        assert "cure: give y a default" in told.stdout
        assert manifest() == before
    assert "--force" in call("schemas", "register", code=1).stderr


def test_what_was_never_released_may_be_forgotten(schemas: Path) -> None:
    write(WITHOUT)
    assert "pipeline dev TOPOLOGY --fresh (or make fresh" in call("schemas", "register", code=1).stderr
    git = ["git", "-C", str(schemas), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a release"]):
        subprocess.run([*git, *arguments], check=True)
    told = call("schemas", "register", code=1).stderr
    assert "--fresh" not in told
    assert "--force" in told


def test_states_that_cannot_follow_may_have_a_revision_instead() -> None:
    write(FIRST, "a.state")
    call("schemas", "register")
    write(WITHOUT, "a.state")
    told = call("schemas", "check", "small_shop", code=1).stdout
    assert (
        "cure: give y a default; or give the aggregate its next revision=, whose states are folded anew, or a migrate="
        in told
    )


def test_a_schema_is_held_against_all_versions() -> None:
    write(WITH_DEFAULT)
    call("schemas", "register")
    write(WITHOUT)
    told = call("schemas", "check", "small_shop", code=1).stdout
    assert f"version 1 (id {ID})" in told
    assert "version 2" not in told
    set_level("BACKWARD")
    assert "registered a.row" in call("schemas", "register").stdout
    assert manifest()["levels"] == {"a.row": "BACKWARD"}
    assert [entry["id"] for entry in manifest()["schemas"]] == list(map(schema_id, (FIRST, WITH_DEFAULT, WITHOUT)))


def test_a_check_works_before_registering() -> None:
    write(WITH_DEFAULT)
    told = call("schemas", "check", "small_shop").stdout
    assert told == (
        "a.row: new or changed; register it with: pipeline schemas register\nmine: classes and schemas agree\n"
    )
    assert len(manifest()["schemas"]) == 1


def test_what_is_forced_is_registered_and_its_earlier_versions_are_given_up() -> None:
    write(WITHOUT)
    write(FIRST, "b.row")
    told = call("schemas", "register", "--force").stdout
    assert f"records of version 1 (id {ID}) cannot be read" in told
    assert "registered a.row; its versions before 2 are given up" in told
    assert [entry.get("forced") for entry in manifest()["schemas"]] == [None, True, None]
    told = call("schemas", "check", "small_shop").stdout
    assert "a.row: version 2 was forced" in told
    write(record("Row", y("string")))  # against version 2 alone, as version 1 is given up
    call("schemas", "register")
    write(FIRST)
    told = call("schemas", "check", "small_shop", code=1).stdout
    assert "version 1 " not in told
    assert f"version 3 (id {schema_id(record('Row', y('string')))})" in told


def test_another_doc_is_the_same_version() -> None:
    write(FIRST | {"doc": "A row."})
    assert call("schemas", "check", "small_shop").stdout == "mine: classes and schemas agree\n"
    assert call("schemas", "register").stdout == "registered a.row\n"
    (entry,) = manifest()["schemas"]
    assert entry == {"id": ID, "topic": "a.row", "schema": FIRST | {"doc": "A row."}}
    assert call("schemas", "register").stdout == "nothing has changed\n"


def test_what_is_taken_back_has_its_earlier_id() -> None:
    write(WITH_DEFAULT)
    call("schemas", "register")
    write(FIRST)
    call("schemas", "register")
    assert [entry["id"] for entry in manifest()["schemas"]] == [ID, schema_id(WITH_DEFAULT), ID]
    assert Registry(Path("schemas")).current("a.row") == (ID, FIRST)


def test_what_does_not_break_is_not_forced() -> None:
    write(WITH_DEFAULT)
    call("schemas", "register", "--force")
    assert "forced" not in Path("schemas/manifest.json").read_text()


def test_machines_get_an_object_a_line() -> None:
    write(WITHOUT)
    for arguments in (("check", "small_shop"), ("register",)):
        first = json.loads(call("schemas", *arguments, "--json", code=1).stdout.splitlines()[0])
        assert first == {
            "topic": "a.row",
            "version": 1,
            "id": ID,
            "direction": "backward",
            "record": "Row",
            "field": "y",
            "path": "y",
            "was": "absent",
            "is": "string without a default",
            "why": "what was written without it has no value for it",
            "cure": "give y a default",
        }
    lines = call("schemas", "register", "--force", "--json").stdout.splitlines()
    assert json.loads(lines[-1]) == {"topic": "a.row", "registered": True, "id": schema_id(WITHOUT), "given_up": 1}
    lines = call("schemas", "check", "small_shop", "--json").stdout.splitlines()
    assert list(map(json.loads, lines)) == [{"topic": "a.row", "given_up": 1}, {"service": "mine", "agrees": True}]


@pytest.mark.parametrize(
    ("schema", "backward", "forward"),
    [
        (WITH_DEFAULT, True, True),
        (WITHOUT, False, True),
        (record("Row"), True, False),
        (record("Row", x("string")), False, False),
    ],
)
@pytest.mark.parametrize("level", Level)
def test_each_level_asks_for_its_directions(level: Level, schema: Any, backward: bool, forward: bool) -> None:
    write(schema)
    set_level(level.name)
    found = list(breaks(Registry(Path("schemas"))))
    wanted = {way for way, fits in (("backward", backward), ("forward", forward)) if getattr(level, way) and not fits}
    assert {"forward" if each.forward else "backward" for each in found} == wanted


@pytest.mark.parametrize("whole", [True, False])
def test_schemas_that_are_missing_are_made_by_what_the_error_names(schemas: Path, whole: bool) -> None:
    for path in schemas.iterdir():
        path.unlink()
    if whole:
        schemas.rmdir()
    Path("small_shop.py").write_text(TILL)
    missing = call("schemas", "check", "small_shop", code=2).stderr
    assert missing.count("pipeline schemas generate TOPOLOGY") == missing.count("pipeline schemas register") == 1
    assert "a project's make schemas does both, and so does pipeline dev" in missing
    call("schemas", "generate", "small_shop")
    call("schemas", "register")
    assert "agree" in call("schemas", "check", "small_shop").stdout


def test_what_several_versions_have_alike_is_said_once() -> None:
    ids = [ID]
    for default in (1, 2):
        write(record("Row", x("int"), y("int", default=default)))
        call("schemas", "register")
        ids.append(manifest()["schemas"][-1]["id"])
    write(record("Row", x("string"), y("int")))
    told = call("schemas", "check", "small_shop", code=1).stdout
    assert told.count("Row.x: was int; is string") == 1
    assert f"records of versions 1 to 3 (ids {ID}, {ids[1]}, {ids[2]}) cannot be read" in told
    assert told.count("Row.y: was absent; is int without a default") == 1
    assert f"records of version 1 (id {ID}) cannot be read" in told


def test_forward_says_what_the_present_schema_must_keep() -> None:
    set_level("FORWARD")
    write(record("Row"))
    told = call("schemas", "check", "small_shop", code=1).stdout
    assert f"records of the present schema cannot be read as they are meant by version 1 (id {ID})" in told
    assert "Row.x: was int without a default; is absent" in told
    assert "cure: keep the field x" in told


@pytest.mark.parametrize(
    ("levels", "says"),
    [
        ({"a.row": "SIDEWAYS"}, "'SIDEWAYS' of a.row is no level; there are NONE, BACKWARD, "),
        ({"a.row": 1}, "1 of a.row is no level"),
        ({"b.row": "NONE"}, "names b.row, which has no schema"),
        (["a.row"], "must be an object"),
    ],
)
def test_wrong_levels_are_named(levels: Any, says: str) -> None:
    Path("schemas/manifest.json").write_text(json.dumps(manifest() | {"levels": levels}))
    for arguments in (("check", "small_shop"), ("register",)):
        assert says in call("schemas", *arguments, code=2).stderr


def test_a_record_that_contains_itself_is_compared_once() -> None:
    write(record("Row", x(["null", "Row"])), "c.row")
    call("schemas", "register")
    write(record("Row", x(["null", "Row"]), y("int")), "c.row")
    assert call("schemas", "register", code=1).output.count("Row.y: was absent; is int without a default") == 1
    write(record("Row", x(["null", "Row"]), y("int", default=0)), "c.row")
    call("schemas", "register")


@pytest.mark.parametrize("directory", [ROOT / "schemas", ENGINE], ids=lambda path: path.parent.name)
def test_all_versions_of_the_shop_and_of_the_engine_fit_the_default(directory: Path) -> None:
    versions: dict[str, list[Any]] = {}
    for entry in json.loads((directory / "manifest.json").read_text())["schemas"]:
        for older in versions.setdefault(entry["topic"], []):
            assert findings(older, entry["schema"]) == []
        versions[entry["topic"]].append(entry["schema"])
    assert DEFAULT is Level.BACKWARD_TRANSITIVE
    assert max(map(len, versions.values())) > 2


def test_a_manifest_that_lacks_a_topic_is_told() -> None:
    Path("schemas/manifest.json").write_text('{"schemas": [{"id": 1, "schema": "int"}]}')
    with pytest.raises(SchemaError, match="not a manifest"):
        Registry(Path("schemas"))

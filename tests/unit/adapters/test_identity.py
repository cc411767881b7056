"""A schema's id follows from what it means, and from nothing else."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.avro import registry
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.wire.identity import BEYOND, FIRST, same, schema_id
from pipeline.errors import SchemaError, UndecodableRecord
from tests.helpers.schema_changes import CHANGES_OF_SCHEMAS, Change, record, x

PLACE = {
    "type": "record",
    "name": "Place",
    "namespace": "shop",
    "fields": [
        {"name": "town", "type": "string", "default": "Rome", "aliases": ["city"]},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"], "default": "A"}},
        {"name": "near", "type": {"type": "array", "items": "Kind"}},
        {"name": "seen", "type": ["null", {"type": "map", "values": "long"}], "default": None},
    ],
}


def changed(*path: Any, to: Any) -> Any:
    schema = copy.deepcopy(PLACE)
    at: Any = schema
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = to
    return schema


def test_the_id_of_a_schema_stays() -> None:
    assert schema_id(PLACE) == 1_874_385_748
    assert schema_id("string") == schema_id({"type": "string"})


@pytest.mark.parametrize(
    "alike",
    [
        PLACE | {"doc": "Where it is."},
        PLACE | {"owner": "the map team"},
        {name: part for name, part in PLACE.items() if name != "namespace"} | {"name": "shop.Place"},
        dict(reversed(PLACE.items())),
        changed("fields", 0, "type", to={"type": "string"}),
        changed("fields", 0, "doc", to="its name"),
        changed("fields", 0, "order", to="ignore"),
        changed("fields", 3, "type", "items", to="shop.Kind"),
        changed("fields", 3, "type", to={"type": {"type": "array", "items": "Kind"}}),
    ],
)
def test_how_it_is_written_and_what_it_says_to_people_does_not_count(alike: Any) -> None:
    assert json.dumps(alike) != json.dumps(PLACE)
    assert schema_id(alike) == schema_id(PLACE)


@pytest.mark.parametrize(
    "other",
    [
        changed("name", to="Spot"),
        changed("namespace", to="store"),
        changed("aliases", to=["Spot"]),
        changed("fields", 0, "name", to="village"),
        changed("fields", 0, "default", to="Oslo"),
        changed("fields", 0, "aliases", to=[]),
        changed("fields", 1, "type", "logicalType", to="other"),
        changed("fields", 1, "type", "precision", to=5),
        changed("fields", 1, "type", "scale", to=1),
        changed("fields", 2, "type", "symbols", to=["B", "A"]),
        changed("fields", 2, "type", "default", to="B"),
        changed("fields", 3, "type", "items", to="string"),
        changed("fields", 4, "type", to=[{"type": "map", "values": "long"}, "null"]),
        changed("fields", 4, "type", 1, "values", to="int"),
        changed("fields", to=PLACE["fields"][::-1]),
        changed("fields", to=PLACE["fields"][:4]),
    ],
)
def test_what_reading_depends_on_counts(other: Any) -> None:
    assert schema_id(other) != schema_id(PLACE)


DIFFERENT = [change for change in CHANGES_OF_SCHEMAS if change.what not in ("nothing", "the doc of a field")]


@pytest.mark.parametrize("change", DIFFERENT, ids=lambda change: change.what)
def test_every_change_of_the_corpus_has_an_id_of_its_own(change: Change) -> None:
    old, new = record("Row", *change.old), record("Row", *change.new)
    assert not same(old, new)
    assert schema_id(old) != schema_id(new)


def test_ids_stay_within_their_range() -> None:
    ids = [schema_id(record("Row", x("int", default=random.randrange(10**9)))) for _ in range(2000)]
    assert min(ids) >= FIRST
    assert max(ids) < BEYOND
    assert max(ids) - min(ids) > (BEYOND - FIRST) * 0.9


def directory(path: Path, **schemas: Any) -> Path:
    path.mkdir(exist_ok=True)
    for topic, schema in schemas.items():
        (path / f"{topic}.row.avsc").write_text(json.dumps(schema))
    Registry(path).register()
    return path


def test_branches_and_repositories_agree(tmp_path: Path) -> None:
    one = directory(directory(tmp_path / "one", a=record("A")), b=record("B"))
    other = directory(directory(tmp_path / "other", b=record("B")), a=record("A"))
    for topic in ("a.row", "b.row"):
        assert Registry(one).current(topic) == Registry(other).current(topic)


def test_topics_of_one_schema_share_its_id_and_no_other_topic_has_it(tmp_path: Path) -> None:
    made = Registry(directory(tmp_path / "schemas", a=record("A"), b=record("A"), c=record("C")))
    number, schema = made.current("a.row")
    assert made.current("b.row") == (number, schema)
    assert made.written_with(number, "b.row") == schema
    with pytest.raises(UndecodableRecord, match=rf"schema id {number} is that of a.row, b.row, not of c.row"):
        made.written_with(number, "c.row")
    with pytest.raises(UndecodableRecord, match="unknown schema id 7"):
        made.written_with(7, "c.row")


def test_two_schemas_of_one_hash_get_two_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "schema_id", lambda schema, salt=0: FIRST + salt)
    made = directory(tmp_path / "schemas", a=record("A"), b=record("B"), c=record("A"))
    assert [Registry(made).current(f"{topic}.row")[0] for topic in "abc"] == [FIRST, FIRST + 1, FIRST]
    directory(made, b=record("C"))
    assert Registry(made).current("b.row")[0] == FIRST + 2


def test_a_salt_makes_another_id() -> None:
    assert len({schema_id("int", salt) for salt in range(5)}) == 5


def test_ids_that_a_manifest_has_stay(tmp_path: Path) -> None:
    made = directory(tmp_path / "schemas", a=record("A"))
    (made / "manifest.json").write_text(json.dumps({"schemas": [{"id": 4, "topic": "a.row", "schema": record("A")}]}))
    assert Registry(made).current("a.row")[0] == 4
    directory(made, a=record("A", x("int", default=0)), b=record("A"))
    assert Registry(made).current("a.row")[0] == schema_id(record("A", x("int", default=0)))
    assert Registry(made).current("b.row")[0] == schema_id(record("A"))
    assert Registry(directory(made, a=record("A"))).current("a.row")[0] == 4


def test_a_file_is_read_once(tmp_path: Path) -> None:
    made = directory(tmp_path / "schemas", a=record("A"))
    known = Registry(made)
    known.current("a.row")
    (made / "a.row.avsc").unlink()
    assert known.current("a.row")[1] == record("A")
    with pytest.raises(SchemaError, match="no schema"):
        Registry(made).current("a.row")

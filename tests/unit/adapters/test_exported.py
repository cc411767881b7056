"""Export files: what is read back is exactly what was written, and any reader of Avro can read it."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.exported.form import branch, renamed
from pipeline.adapters.exported.reading import ExportFile
from pipeline.adapters.exported.writing import ExportWriter
from pipeline.errors import ExportFileError

LINE = {"type": "record", "name": "Line", "namespace": "shop.parts", "fields": [{"name": "code", "type": "string"}]}
PLACED = {
    "type": "record",
    "name": "Placed",
    "namespace": "shop",
    "aliases": ["OrderMade"],
    "fields": [
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}, "default": "A"},
        {"name": "lines", "type": {"type": "array", "items": LINE}},
        {"name": "first", "type": ["null", "shop.parts.Line"], "default": None},
        {"name": "other", "type": ["null", "Kind"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "counts", "type": {"type": "map", "values": "long"}},
    ],
}
PLACED_2 = {**PLACED, "fields": [*PLACED["fields"], {"name": "more", "type": "bytes"}]}
SCHEMAS: dict[int, Any] = {17: PLACED, 18: PLACED_2, 2**31 - 1: ["null", "string", LINE], 5: "string", 6: "string"}


def encoded(schema_id: int, value: Any) -> bytes:
    from io import BytesIO

    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMAS[schema_id]), value)
    return b"\0" + schema_id.to_bytes(4, "big") + out.getvalue()


def known(topic: str, schema_id: int) -> tuple[str, Any] | None:
    return (topic, SCHEMAS[schema_id]) if schema_id in SCHEMAS else None


def written(path: Path, records: list[Any]) -> ExportFile:
    with ExportWriter(path, known) as out:
        for record in records:
            out.write(*record)
        out.about = {"topics": {"a": 2, "b": 1}, "places": {}}
    return ExportFile(path)


lines = st.fixed_dictionaries({"code": st.text(max_size=5)})
placed = st.fixed_dictionaries(
    {
        "kind": st.sampled_from("AB"),
        "lines": st.lists(lines, max_size=3),
        "first": st.none() | lines,
        "other": st.none() | st.sampled_from("AB"),
        "at": st.integers(-(2**63), 2**63 - 1),  # a year that Python's datetime has not got
        "counts": st.dictionaries(st.text(max_size=3), st.integers(-(2**63), 2**63 - 1), max_size=2),
        "more": st.binary(max_size=4),
    }
)


def of_placed(schema_id: int) -> st.SearchStrategy[bytes]:
    from pipeline.adapters.avro.binding import without_logical_types

    def data(value: Any) -> bytes:
        from io import BytesIO

        out = BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(without_logical_types(SCHEMAS[schema_id])), value)
        return b"\0" + schema_id.to_bytes(4, "big") + out.getvalue()

    return placed.map(data)


values = st.one_of(
    st.none(),
    st.binary(max_size=20),
    st.binary(max_size=20).map(lambda data: b"\0\0\0\0\x11" + data),  # seems to be of schema 17
    of_placed(17),
    of_placed(18),
    of_placed(17).map(lambda data: data + b"!"),  # ends later than its schema says
    of_placed(18).map(lambda data: data[:-1]),
    st.text(max_size=5).map(lambda text: encoded(5, text)),
    st.text(max_size=5).map(lambda text: encoded(6, text)),
    (st.none() | st.text(max_size=5)).map(lambda value: encoded(2**31 - 1, value)),
)
keys = st.none() | st.binary(max_size=4) | st.text(max_size=4).map(str.encode)
headers = st.lists(st.tuples(st.text(max_size=4), st.none() | st.binary(max_size=4)), max_size=2).map(tuple)
records = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]), st.just(0), st.integers(0, 2**63 - 1), keys, values, st.integers(0, 2**44), headers
    ),
    max_size=20,
)


@settings(max_examples=100, deadline=None)
@given(records)
def test_what_is_read_back_is_exactly_what_was_written(sent: list[Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "any.avro"
        file = written(path, sent)
        for topic in ("a", "b"):
            found = [(topic, 0, at, key, value, time, told) for at, key, value, time, told in file.records(topic, 0)]
            assert found == [record for record in sent if record[0] == topic]
        assert [each.name for each in Path(folder).iterdir()] == ["any.avro"]
        plain = fastavro.reader(path.open("rb"))
        schema = fastavro.parse_schema(plain.writer_schema)
        assert schema
        assert sum(block.num_records for block in fastavro.block_reader(path.open("rb"))) == len(sent)


def test_another_program_reads_each_value_by_the_schema_that_has_written_it(tmp_path: Path) -> None:
    value = {
        "kind": "B",
        "lines": [{"code": "TEA"}],
        "first": {"code": "POT"},
        "other": "A",
        "at": 1,
        "counts": {"x": 1},
    }
    sent = [
        ("a", 1, 0, b"k", encoded(17, value), 1_000, (("h", b"v"),)),
        ("a", 1, 1, b"k", encoded(18, value | {"more": b"!"}), 1_000, ()),
        ("a", 1, 2, b"k", encoded(5, "text"), 1_000, ()),
        ("a", 1, 3, b"\xff", b"no Avro", 1_000, ()),
        ("a", 1, 4, None, None, 1_000, ()),
    ]
    written(tmp_path / "some.avro", sent)
    found: list[Any] = list(fastavro.reader((tmp_path / "some.avro").open("rb")))
    first, second, third, fourth, fifth = (record["value"] for record in found)
    assert first["first"] == {"code": "POT"}
    assert first["kind"] == "B"
    assert "more" not in first
    assert second["more"] == b"!"
    assert (third, fourth, fifth) == ({"value": "text"}, b"no Avro", None)
    assert (found[0]["topic"], found[0]["partition"], found[0]["key"], found[0]["time"].timestamp()) == ("a", 1, "k", 1)
    assert (found[3]["key"], found[4]["key"]) == (b"\xff", None)
    assert found[0]["headers"] == [{"name": "h", "value": b"v"}]


def test_types_of_several_versions_have_names_of_their_own() -> None:
    moved = branch(17, PLACED)
    assert (moved["namespace"], moved["name"]) == ("s17.shop", "Placed")
    assert moved["fields"][1]["type"]["items"]["namespace"] == "s17.shop.parts"
    assert moved["fields"][2]["type"] == ["null", "s17.shop.parts.Line"]
    assert moved["fields"][3]["type"] == ["null", "s17.shop.Kind"]
    assert branch(5, "string")["fields"] == [{"name": "value", "type": "string"}]
    assert renamed({"type": {"type": "fixed", "name": "F", "size": 2}}, "s1")["type"]["namespace"] == "s1"


def test_nothing_is_left_of_a_file_that_was_given_up(tmp_path: Path) -> None:
    path = tmp_path / "there.avro"
    path.write_text("an earlier one")

    def given_up() -> None:
        with ExportWriter(path, known) as out:
            out.write("a", 0, 0, b"k", b"v", 1, ())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        given_up()
    assert path.read_text() == "an earlier one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_none_or_damaged_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "whole.avro"
    written(path, [("a", 0, n, b"k", encoded(5, f"text {n}"), 1, ()) for n in range(1_000)])
    whole = path.read_bytes()
    for data, why in [
        (b"", "no Avro container file"),
        (b"Obj\x01", "its header is damaged"),
        (whole[:-5], "has .* bytes of records, and should have"),
        (whole + b"!", "has .* bytes of records, and should have"),
    ]:
        path.write_bytes(data)
        with pytest.raises(ExportFileError, match=f"{why}.*; export it anew"):
            ExportFile(path)
    path.write_bytes(whole[:-40] + bytes([whole[-40] ^ 255]) + whole[-39:])
    with pytest.raises(ExportFileError, match="is damaged in the records of a-0"):
        list(ExportFile(path).records("a", 0))
    with (tmp_path / "other.avro").open("wb") as out:
        fastavro.writer(out, LINE, [{"code": "TEA"}])
    with pytest.raises(ExportFileError, match="not written by this version of pipeline export"):
        ExportFile(tmp_path / "other.avro")


def test_a_block_holds_no_more_than_fits_in_memory(tmp_path: Path) -> None:
    noise = zlib.compress(json.dumps(list(range(20_000))).encode())[:40_000]
    written(tmp_path / "large.avro", [("a", 0, n, b"k", noise, 1, ()) for n in range(100)])
    sizes = [block.size for block in fastavro.block_reader((tmp_path / "large.avro").open("rb"))]
    assert len(sizes) > 10
    assert max(sizes) < 400_000

"""Records of older schemas as bytes: in blocks, cut off, and made to harm."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from pipeline.adapters.avro.codec import MISFITS
from pipeline.adapters.avro.wire.resolution import Resolution
from pipeline.adapters.avro.wire.rewriting import EMPTY_ITEMS_MAX
from pipeline.adapters.avro.wire.varint import long_bytes
from pipeline.errors import SchemaError, UndecodableRecord
from tests.helpers.schema_changes import array, enum, fixed, mapping, record, x, y
from tests.helpers.schema_mutations import changed, records, values
from tests.helpers.schema_pair import Pair

BILLIONS = long_bytes(2**40)
ONE, TWO = struct.pack("<d", 1), struct.pack("<d", 2)


def rewritten(old: Any, new: Any, data: bytes) -> bytes:
    return Resolution(record("Row", old), record("Row", *new)).rewrite(data, 0)


@pytest.mark.parametrize(
    ("old", "new", "data", "expected"),
    [
        # two items in a block that says its length, one in a block that does not
        (array("int"), array("double"), b"\x03\x04\x02\x04\x02\x02\0", b"\x04" + ONE + TWO + b"\x02" + ONE + b"\0"),
        (mapping("int"), mapping("double"), b"\x01\x06\x02k\x02\0", b"\x02\x02k" + ONE + b"\0"),
        (array("int"), array("int"), b"\x03\x04\x02\x04\x02\x02\0", b"\x03\x04\x02\x04\x02\x02\0"),
    ],
)
def test_items_in_blocks(old: Any, new: Any, data: bytes, expected: bytes) -> None:
    assert rewritten(x(old), [x(new)], data) == expected
    assert rewritten(x(old), [], data) == b""


@pytest.mark.parametrize("old", ["null", record("E"), record("E", y("null"))], ids=str)
def test_billions_of_items_without_bytes_take_no_time(old: Any) -> None:
    data = BILLIONS + b"\0"
    assert rewritten(x(array(old)), [], data) == b""
    assert rewritten(x(array(old)), [x(array(old))], data) == data


@pytest.mark.parametrize("items", [fixed("F", 2), "double", "int", "string"], ids=str)
def test_billions_of_items_that_are_not_there_take_no_time(items: Any) -> None:
    with pytest.raises(MISFITS):
        rewritten(x(array(items)), [], BILLIONS + b"\0\0\0")


def test_items_without_bytes_that_get_a_default_are_believed_up_to_a_bound() -> None:
    old, new = x(array(record("E"))), [x(array(record("E", y("int", default=1))))]
    many = long_bytes(EMPTY_ITEMS_MAX)
    assert rewritten(old, new, many + b"\0") == many + b"\x02" * EMPTY_ITEMS_MAX + b"\0"
    for data in (BILLIONS + b"\0", many + b"\x02\0"):
        with pytest.raises(ValueError, match="too many empty items"):
            rewritten(old, new, data)


@pytest.mark.parametrize("kind", [["null", "int"], enum("E", "A", "B")], ids=["union", "enum"])
@pytest.mark.parametrize("data", [b"\x01", b"\x09"], ids=["negative", "too large"])
def test_a_branch_or_symbol_that_is_not_there(kind: Any, data: bytes) -> None:
    other = ["int", "null"] if isinstance(kind, list) else enum("E", "B", "A")
    with pytest.raises(ValueError, match="there is no branch or symbol"):
        rewritten(x(kind), [x(other)], data)
    if isinstance(kind, list):
        with pytest.raises(ValueError, match="there is no branch or symbol"):
            rewritten(x(kind), [x(kind)], data)


def test_a_record_of_a_union_is_found_by_its_whole_name_first() -> None:
    one, other = record("one.R", x("long")), record("other.R", x("long"))
    assert rewritten(x([one, other]), [x([other, one])], b"\0\x0e") == b"\x02\x0e"
    assert rewritten(x([one, other]), [x([other, one])], b"\x02\x0e") == b"\0\x0e"
    assert rewritten(x([one, other]), [x([record("third.R", x("long")), other])], b"\x02\x0e") == b"\x02\x0e"


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_record_that_is_cut_off_or_goes_on_is_refused(data: st.DataObject) -> None:
    old = data.draw(records(), label="old")
    new = data.draw(st.composite(changed)(old), label="new")
    value = data.draw(values(old), label="value")
    try:
        pair = Pair(old, new, native=False)
    except SchemaError:  # no message classes can hold such a union
        reject()
    whole, resolution = pair.write(value)[5:], Resolution(old, new)
    for end in range(len(whole)):
        with pytest.raises(MISFITS):
            resolution.rewrite(whole[:end], 0)
    with pytest.raises(MISFITS):
        resolution.rewrite(whole + b"\0", 0)
    with pytest.raises(UndecodableRecord):
        pair.decode(b"\0\0\0\0\x01" + whole + b"\0")

"""What the check calls compatible is read exactly by the codec, and what it does not is not."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from pipeline.adapters.avro.schemas.compatibility import findings
from pipeline.errors import SchemaError, UndecodableRecord
from tests.helpers.schema_changes import CHANGES, CHANGES_OF_SCHEMAS, MEANS, RAISES, READS, Change, record
from tests.helpers.schema_mutations import Unreadable, changed, expected, records, values
from tests.helpers.schema_pair import Pair
from tests.unit.adapters.test_codec import IMPLEMENTATIONS

EXAMPLES = int(os.environ.get("PIPELINE_TEST_EXAMPLES", "300"))


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
@pytest.mark.parametrize("change", CHANGES_OF_SCHEMAS, ids=lambda change: change.what)
def test_each_change_has_its_verdict_by_check_and_codec(change: Change, native: bool) -> None:
    old, new = record("Row", *change.old), record("Row", *change.new)
    found = findings(old, new)
    assert bool(found) == (change.verdict != READS), found
    pair = Pair(old, new, native=native)
    if change.verdict == RAISES:
        with pytest.raises(UndecodableRecord, match=f"{re.escape(str(found[0].place))}|'utf-8' codec"):
            pair.read(change.value)
    elif change.verdict == CHANGES:
        assert pair.read(change.value) != pair.new.message(change.value)
    else:
        read = pair.read(change.value)
        assert repr(read) == repr(pair.new.message(change.read))  # 1 is not 1.0


def test_the_table_has_each_verdict() -> None:
    names = [change.what for change in CHANGES_OF_SCHEMAS]
    assert len(names) == len(set(names)) >= 80
    assert {change.verdict for change in CHANGES_OF_SCHEMAS} == {READS, RAISES, CHANGES, MEANS}


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
@pytest.mark.parametrize("native", IMPLEMENTATIONS)
def test_old_values_are_read_by_avros_rules_and_exactly_if_nothing_is_found(native: bool, data: st.DataObject) -> None:
    old = data.draw(records(), label="old")
    new = data.draw(st.composite(changed)(old), label="new")
    try:
        pair = Pair(old, new, native=native)
    except SchemaError:  # no message classes can hold such a union
        reject()
    found = findings(old, new)
    for _ in range(3):
        value = data.draw(values(old), label="value")
        try:
            read, exact = expected(value, old, new)
        except Unreadable:
            assert found
            with pytest.raises(UndecodableRecord):
                pair.read(value)
            continue
        assert exact or found
        result = pair.read(value)
        if exact:
            assert result == pair.new.message(read)

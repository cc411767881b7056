"""What a finding shows of two values: where they differ."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from pipeline.verify.report import FIELDS, SHORT, Field, Finding, Report, sides
from pipeline.verify.show import line
from topologies import inventory as inv

WRONG = Finding("wrong_row", "shop", "units.row", 0, "TEA", 5, "", "")


def shown(finding: Finding) -> str:
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(line(finding), soft_wrap=True)
    return captured.get()


def test_only_fields_that_differ_are_shown() -> None:
    finding = WRONG.of_values(inv.Stock(True, "TEA" * 200, 7), inv.Stock(True, "TEA" * 200, 9))
    assert len(finding.fields) == 1
    (field,) = finding.fields
    assert (field.expected, field.found) == ("7", "9")
    assert (finding.expected, finding.found) == (f"{field.field} 7", f"{field.field} 9")
    assert f"\n    {field.field}: expected 7, found 9\n" in shown(finding)


def test_long_values_are_shown_from_where_they_begin_to_differ() -> None:
    long = "x" * 1000
    ((_, expected, found),) = sides({"text": long + "here"}, {"text": long + "there" + long}).fields
    assert expected.endswith('xhere"')
    assert "xthere" in found
    assert max(len(expected), len(found)) <= SHORT + 2


def test_a_value_that_is_missing_is_not_null() -> None:
    assert sides({"a": None, "b": 1}, {"b": None}).fields == (Field("a", "null", "absent"), Field("b", "1", "null"))


def test_many_differences_are_counted() -> None:
    finding = WRONG.of_values(list(range(100)), [-1] * 100)
    assert len(finding.fields) == FIELDS
    assert f"and {100 - FIELDS} more fields" in shown(finding)


@pytest.mark.parametrize(("expected", "found"), [(None, inv.Stock(True, "TEA", 7)), (inv.Stock(True, "TEA", 7), None)])
def test_a_value_beside_none_is_shown_as_a_whole(expected: object, found: object) -> None:
    finding = WRONG.of_values(expected, found)
    assert finding.fields == ()
    assert "nothing" in (finding.expected, finding.found)
    assert any(side.startswith("Stock(") for side in (finding.expected, finding.found))


def test_json_names_the_fields() -> None:
    report = Report()
    report.add(WRONG.of_values({"a": 1}, {"a": 2}))
    (found,) = json.loads(json.dumps(report.as_json()))["findings"]
    assert found["fields"] == [{"field": "a", "expected": "1", "found": "2"}]

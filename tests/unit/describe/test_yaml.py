"""What is written as YAML is read as the same."""

from typing import Any

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import example, given

from pipeline.describe.asyncapi import asyncapi
from pipeline.describe.yaml import yaml_text
from pipeline.topology import load

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["yes", "Null", "~", "1", "- a", "a: b", "#"]
)
LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(LEAF, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner))


@given(VALUES)
@example({"x" * 2000: {"y" * 2000: [1, {"z" * 2000: None}]}, "b": 1})
@example({"\u2028a\u2029": "b\u2028\u2029"})
@example([1e16, 1e-7, 1.5e300, 0.0])
@example({"a": [[], {}, [{"b": [1]}]], "on": "\x85\ufeff\u2028\x7f😀"})
def test_it_is_read_back(value: Any) -> None:
    assert yaml.safe_load(yaml_text(value)) == value


def test_a_document_is_read_back() -> None:
    document = asyncapi(load("topologies"), version="1.0.0")
    assert yaml.safe_load(yaml_text(document)) == document


def test_names_are_bare_if_they_can_be() -> None:
    assert yaml_text({"retention.ms": -1, "$ref": "x", "on": True}) == 'retention.ms: -1\n"$ref": "x"\n"on": true\n'
    with pytest.raises(TypeError):
        yaml_text({"a": object()})

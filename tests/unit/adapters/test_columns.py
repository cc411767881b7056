"""Rows whose fields are unions, kept in the columns of an SQL table and read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.generation import Request, generate
from pipeline.adapters.sql.columns import Shape
from pipeline.engine.state.table import TableSpec


class Ward(Enum):
    EAST = "e"
    WEST = "w"


@dataclass(frozen=True, slots=True)
class Left:
    on: int | date


@dataclass(frozen=True, slots=True)
class Stay:
    where: str | Ward
    until: int | date | str | None
    note: bytes | str | Left
    all: tuple[str | Ward, ...] = ()


WHERE = st.sampled_from(Ward) | st.sampled_from([ward.name for ward in Ward]) | st.text()
NUMBERS = st.integers(-(2**63), 2**63 - 1)
STAYS = st.builds(
    Stay,
    WHERE,
    NUMBERS | st.dates() | st.text() | st.none(),
    st.binary() | st.text() | st.builds(Left, NUMBERS | st.dates()),
    st.lists(WHERE, max_size=3).map(tuple),
)


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> tuple[Codec, Shape]:
    schemas: Path = tmp_path_factory.mktemp("schemas")
    (schemas / "stays.row.avsc").write_text(json.dumps(generate(Request("stays.row", Stay, namespace="clinic"))))
    Registry(schemas).register()
    registry = Registry(schemas)
    codec = Codec(registry, "stays.row", Stay)
    return codec, Shape(TableSpec("stays", "stays.row", codec), registry, sa.MetaData())


@given(stay=STAYS)
def test_each_branch_of_a_union_comes_back_as_itself(shape: tuple[Codec, Shape], stay: Stay) -> None:
    codec, columns = shape
    found = columns.columns(codec.encode(stay))
    assert codec.decode(columns.data(json.loads(json.dumps(found)))) == stay


def test_a_row_that_would_change_names_the_field(shape: tuple[Codec, Shape], monkeypatch: pytest.MonkeyPatch) -> None:
    codec, columns = shape
    monkeypatch.setattr(columns, "data", lambda row: codec.encode(Stay("EAST", 1, "")))
    with pytest.raises(ValueError, match=r"without a change: until$"):
        columns.check(b"k", codec.encode(Stay("EAST", 2, "")))

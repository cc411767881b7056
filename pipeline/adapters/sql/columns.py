"""Maps a projection's rows to columns of a table, one for each field of the Avro record.

Rows come and go as records of the row topic. A field of a type without a column (records, arrays, maps, unions) is kept
as JSON; a logical type (timestamps, dates, decimals, UUIDs) becomes the database's own.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import sqlalchemy as sa
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from sqlalchemy.dialects import postgresql

from pipeline.adapters.avro.binding import Names, named_types, resolve, without_logical_types
from pipeline.adapters.avro.registry import Registry, Schema
from pipeline.adapters.sql.nested import from_json, to_json
from pipeline.engine.state.table import TableSpec
from pipeline.errors import SchemaError
from pipeline.model import TopicKind
from pipeline.model.projection.sql_names import KEY, PARTITION, unfit_columns, unfit_table
from pipeline.model.records.keys import ROW_KEY_BYTES_MAX

HEADER = struct.Struct(">BI")


class Moment(sa.TypeDecorator[datetime]):
    """A point in time. SQLite keeps none with a zone, so there it is in UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value.replace(tzinfo=None) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Exact(sa.TypeDecorator[Decimal]):
    """A decimal number. SQLite has none, so there it is text."""

    impl = sa.Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(sa.Text() if dialect.name == "sqlite" else self.impl_instance)

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> Any:
        return f"{value:f}" if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


PLAIN: dict[str, type[sa.types.TypeEngine[Any]]] = {
    "boolean": sa.Boolean,
    "int": sa.Integer,
    "long": sa.BigInteger,
    "float": sa.Double,
    "double": sa.Double,
    "string": sa.Text,
    "bytes": sa.LargeBinary,
    "fixed": sa.LargeBinary,
    "enum": sa.Text,
}
LOGICAL: dict[str, type[sa.types.TypeEngine[Any]]] = {
    "timestamp-millis": Moment,
    "timestamp-micros": Moment,
    "date": sa.Date,
    "uuid": sa.Uuid,
}
OF_LOGICAL: tuple[type[Any], ...] = (Exact, *LOGICAL.values())
ANY_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


class Shape:
    """The table of one projection. Raises SchemaError if its rows cannot be kept in columns."""

    def __init__(self, spec: TableSpec, registry: Registry, metadata: sa.MetaData) -> None:
        topic = TopicKind.ROW.topic(spec.name)
        self.spec, self._codec = spec, spec.codec
        schema_id, schema = registry.current(topic)
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise SchemaError(f"{topic}.avsc: only a record can be kept in a database")
        self._header, names = HEADER.pack(0, schema_id), named_types(schema)
        nested = set()
        columns: list[sa.Column[Any]] = []
        fields: list[dict[str, Any]] = []
        for field in schema["fields"]:
            kind, nullable = _column(field["type"], names)
            if kind is None:
                nested.add(field["name"])
            if not isinstance(kind, OF_LOGICAL):
                field = {**field, "type": without_logical_types(field["type"], told_apart=True)}
            columns.append(sa.Column(field["name"], ANY_JSON if kind is None else kind, nullable=nullable))
            fields.append(field)
        if (why := unfit_table(spec.name) or unfit_columns([column.name for column in columns])) is not None:
            raise SchemaError(f"{topic}.avsc: {why}")
        read = {**schema, "fields": fields}
        self._schema, self._names = parse_schema(read), named_types(read)
        self._nested: dict[str, Schema] = {field["name"]: field["type"] for field in fields if field["name"] in nested}
        # In the order of bytes, as in every other table; PostgreSQL's default depends on the server's language.
        key = sa.Column(KEY, sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True)
        partition = sa.Column(PARTITION, sa.Integer, nullable=False)
        self.table = sa.Table(spec.name, metadata, key, partition, *columns)

    # --- rows ---------------------------------------------------------------------------------------------------------

    def columns(self, data: bytes) -> dict[str, Any]:
        """Return a record's fields as column values. Raises ValueError if a value does not fit its column."""
        if data[: len(self._header)] != self._header:
            data = self._codec.encode(self._codec.decode(data))  # it has an older version of the schema
        row: Any = schemaless_reader(
            BytesIO(data[len(self._header) :]),
            self._schema,
            None,
            return_record_name=True,
            return_named_type=True,
            handle_unicode_errors="strict",
        )
        for name, schema in self._nested.items():
            row[name] = to_json(schema, row[name], self._names)
        return dict(row)

    def data(self, columns: Mapping[str, Any]) -> bytes:
        """Return the record with those fields."""
        row = dict(columns)
        for name, schema in self._nested.items():
            row[name] = from_json(schema, row[name], self._names)
        out = BytesIO()
        out.write(self._header)
        schemaless_writer(out, self._schema, row)
        return out.getvalue()

    def check(self, key: bytes, data: bytes) -> None:
        """Raise ValueError if the database would not return the record byte by byte."""
        if len(key) > ROW_KEY_BYTES_MAX:
            raise ValueError(f"the key has {len(key)} bytes, and a row key in a database at most {ROW_KEY_BYTES_MAX}")
        if b"\0" in key:
            raise ValueError("the key contains a zero character, which a database does not take")
        try:
            columns = self.columns(data)
        except (OverflowError, ArithmeticError) as error:
            raise ValueError(f"a field is out of the range that a database knows: {error}") from error
        for name, value in columns.items():
            if why := _refused(value):
                raise ValueError(f"field {name!r} {why}, which a database does not take")
        if self.data(columns) != data:
            raise ValueError(f"the row cannot be kept in columns without a change{self._changed(columns, data)}")

    def _changed(self, columns: Mapping[str, Any], data: bytes) -> str:
        """Return which fields come back as something else, for an error."""
        back = self.columns(self.data(columns))
        names = [name for name, value in columns.items() if back[name] != value]
        return f": {', '.join(names)}" if names else ""


def _column(schema: Schema, names: Names) -> tuple[sa.types.TypeEngine[Any] | None, bool]:
    """Return the type of a field's column, None for JSON, and whether it may be null."""
    declared = schema
    schema = resolve(schema, names)
    if isinstance(schema, list):
        others = [branch for branch in schema if branch != "null"]
        if len(others) == 1 and len(schema) == 2:
            return _column(others[0], names)[0], True
        return None, "null" in schema
    details = declared if isinstance(declared, dict) else schema if isinstance(schema, dict) else {}
    logical = details.get("logicalType")
    if logical == "decimal":
        return Exact(details["precision"], details.get("scale", 0)), False
    if logical in LOGICAL:
        return LOGICAL[logical](), False
    made = PLAIN.get(schema["type"] if isinstance(schema, dict) else schema)
    return None if made is None else made(), False


def _refused(value: Any) -> str | None:
    """Return why a database does not take a value, or a part of it; None if it does."""
    if isinstance(value, str):
        return "contains a zero character" if "\0" in value else None
    if isinstance(value, Mapping):
        return _refused([*value, *value.values()])
    if isinstance(value, list):
        return next((why for each in value if (why := _refused(each))), None)
    return None

"""Tables in a database: who may write, what comes back, what is refused. SQLite and PostgreSQL alike."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.json.writing import row_json
from pipeline.adapters.memory import MemoryDatabase
from pipeline.adapters.sql import SqlDatabase, SqlStores, database_url
from pipeline.engine.ports import TP, SharedStores
from pipeline.engine.state.table import TableSpec
from pipeline.errors import DatabaseUnreachable, DatabaseUnusable, StoreDamaged, Superseded
from tests.bank.services.accounts import Profile
from tests.bank.traffic import BANK, KEYS, profile
from tests.contract.test_store import OF_U, ONE, SCHEMAS, TABLES, TWO, url_of
from tests.helpers import every_type
from tests.helpers.every_type import All
from tests.helpers.postgres import Postgres
from tests.unit.adapters.test_values import ALLS

SOURCE = TP("topic", 0)
KEY = b"t\0a"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlDatabase]:
    made = SqlDatabase("service", database_url(url_of(request.param, request, tmp_path)))
    yield made
    made.close()


def stores(database: SqlDatabase) -> SqlStores:
    return SqlStores(database, Registry(SCHEMAS))


def rows(database: SqlDatabase, query: str) -> list[tuple[Any, ...]]:
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


# --- the fence --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SharedStores]:
    if request.param == "memory":
        yield MemoryDatabase()
    else:
        made = SqlDatabase("service", database_url(url_of(request.param, request, tmp_path)))
        yield stores(made)
        made.close()


def test_who_opens_last_goes_on_and_who_was_before_can_change_nothing(shared: SharedStores) -> None:
    zombie = shared.open(SOURCE, TABLES)
    zombie.write([(KEY, ONE)], {"source:topic": 1})
    owner = shared.open(SOURCE, TABLES)
    assert owner.position("source:topic") == 1
    for attempt in (lambda: zombie.write([(KEY, TWO)], {"source:topic": 2}), lambda: zombie.write([], {}), zombie.wipe):
        with pytest.raises(Superseded):
            attempt()
    assert (owner.get(KEY), shared.open(SOURCE, TABLES).position("source:topic")) == (ONE, 1)


def test_the_fence_is_that_of_one_partition(shared: SharedStores) -> None:
    one = shared.open(SOURCE, TABLES)
    other = shared.open(TP("topic", 1), TABLES)
    other.write([(b"t\0b", TWO)], {"source:topic": 9})
    one.write([(KEY, ONE)], {"source:topic": 1})
    assert one.get(b"t\0b") is None, "a row of the other partition"
    assert one.scan(b"t\0", b"", 10) == [(KEY, ONE)]
    one.wipe()
    assert (other.get(b"t\0b"), other.position("source:topic")) == (TWO, 9)


def test_a_version_of_a_projection_has_a_fence_and_positions_of_its_own(database: SqlDatabase) -> None:
    first = stores(database).open(SOURCE, [TABLES[0]])
    first.write([(KEY, ONE)], {"source:topic": 1})
    spec = TABLES[0]._replace(name=TABLES[1].name, changelog=TABLES[1].changelog, codec=TABLES[1].codec)
    later = SqlStores(database, Registry(SCHEMAS), "service_t_v2").open(SOURCE, [spec])
    assert later.position("source:topic") is None
    later.write([(b"u\0a", OF_U)], {"source:topic": 9})
    first.write([(KEY, TWO)], {"source:topic": 2})
    assert (first.get(KEY), first.position("source:topic")) == (TWO, 2)
    later.wipe()
    assert first.get(KEY) == TWO
    assert rows(database, "SELECT source FROM pipeline_positions ORDER BY source") == [
        ("service_t_v2:topic",),
        ("topic",),
    ]


def test_a_database_that_has_lost_the_last_write_is_not_written_to_as_if_it_had_it(database: SqlDatabase) -> None:
    store = stores(database).open(SOURCE, TABLES)
    store.write([(KEY, ONE)], {"source:topic": 1})
    with database.transaction() as connection:  # as after a fail-over to a server that lagged behind
        connection.execute(sa.text("UPDATE pipeline_positions SET positions = '{}'"))
        connection.execute(sa.text("DELETE FROM t"))
    with pytest.raises(Superseded):
        store.write([(b"t\0b", TWO)], {"source:topic": 2})
    assert rows(database, "SELECT * FROM t") == []


def test_a_write_that_fails_halfway_leaves_rows_and_positions_as_they_were(database: SqlDatabase) -> None:
    store = stores(database).open(SOURCE, TABLES)
    store.write([(KEY, ONE)], {"source:topic": 1})
    with database.transaction() as connection:
        connection.execute(sa.text("DROP TABLE u"))
    with pytest.raises(StoreDamaged):
        store.write([(KEY, TWO), (b"u\0a", OF_U)], {"source:topic": 2})
    assert store.get(KEY) == ONE
    assert store.position("source:topic") == 1


def test_a_table_that_was_dropped_is_made_again_and_begins_from_nothing(database: SqlDatabase) -> None:
    for n in range(2):
        stores(database).open(TP("topic", n), TABLES).write([(f"t\0{n}".encode(), ONE)], {"source:topic": 1})
    with database.transaction() as connection:
        connection.execute(sa.text("DROP TABLE t"))
    # Both partitions' rows are gone, so both have to be restored.
    assert [stores(database).open(TP("topic", n), TABLES).position("source:topic") for n in range(2)] == [None, None]


@pytest.mark.parametrize("count", [0, 1, 2_500])
def test_many_rows_are_fetched_together(shared: SharedStores, count: int) -> None:
    store = shared.open(SOURCE, TABLES)
    keys = [f"t\0{n}".encode() for n in range(count)]
    store.write([(key, (ONE, TWO)[n % 2]) for n, key in enumerate(keys)], {})
    asked = [*keys, b"t\0nothing", b"t\0\xff", b"t\0a\0"]
    assert store.get_many(asked) == {key: (ONE, TWO)[n % 2] for n, key in enumerate(keys)}
    assert store.get_many([]) == {}


def test_who_stands_still_within_a_transaction_holds_the_next_one_up_for_seconds_only(postgres: Postgres) -> None:
    database = SqlDatabase("service", database_url(postgres.new_database()))
    zombie = stores(database).open(SOURCE, TABLES)
    zombie.write([(KEY, ONE)], {"source:topic": 1})
    owners = []

    def halfway(connection: sa.Connection, noted: str) -> None:
        advance(connection, noted)
        owners.append(stores(database).open(SOURCE, TABLES))
        owners[0].write([(KEY, TWO)], {"source:topic": 2})

    advance, zombie._advance = zombie._advance, halfway  # type: ignore[method-assign]
    with pytest.raises(DatabaseUnreachable):  # the server has ended the session
        zombie.write([(KEY, ONE)], {"source:topic": 3})
    assert (owners[0].get(KEY), stores(database).open(SOURCE, TABLES).position("source:topic")) == (TWO, 2)
    database.close()


# --- columns ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    code: str
    weight: float | None
    seal: bytes
    since: int


@dataclass(frozen=True, slots=True)
class Thing:
    yes: bool
    small: int
    large: int
    single: float
    ratio: float
    text: str
    data: bytes
    size: str
    mark: bytes
    maybe: int | None
    at: int
    hour: int
    local: int | None
    day: int | None
    price: bytes
    lines: tuple[Line, ...]
    counts: dict[str, int]
    first: Line | None
    what: str | int | Line


LINE = Line("TEA", 1.0, b"\xff\0", 5)
THING = Thing(
    *(True, -(2**31), 2**63 - 1, 0.5, 1 / 3, "“ü” \U0001f600 '", b"\0\xff", "L", b"\1\2", None, 1_259_654_700_123),
    *(3_600_000, 10**12, 14_579, b"\x02\x37", (LINE, replace(LINE, weight=None)), {"ü": 2**40}, LINE, LINE),
)
THINGS = TableSpec("things", "things.row", codecs(SCHEMAS)("things.row", Thing))
OTHERS = [
    THING,
    replace(
        THING,
        yes=False,
        large=-(2**63),
        ratio=1e308,
        text="",
        data=b"",
        maybe=0,
        day=None,
        lines=(),
        counts={},
        first=None,
    ),
    replace(THING, ratio=1e308, at=-1, what="{}", price=b"\xfd\xc9"),
    replace(THING, ratio=5e-324, single=-2.0, at=253_402_300_799_999, what=7),
]


@pytest.mark.parametrize("thing", OTHERS)
def test_every_type_comes_back_to_the_byte(database: SqlDatabase, thing: Thing) -> None:
    store = stores(database).open(SOURCE, [THINGS])
    data = THINGS.codec.encode(thing)
    store.check(b"things\0k", data)
    store.write([(b"things\0k", data)], {})
    assert store.get(b"things\0k") == data
    assert store.scan(b"things\0", b"", 2) == [(b"things\0k", data)]


@settings(deadline=None, suppress_health_check=[*HealthCheck], max_examples=100)
@given(value=ALLS | ALLS.map(lambda value: replace(value, ref=All().ref, at=1, day=2, price=b"\1", text="“ü”")))
def test_any_row_is_refused_beforehand_or_read_as_in_every_other_store(
    database: SqlDatabase, every_type_schemas: Path, value: All
) -> None:
    spec = TableSpec("kept", "kept.row", codecs(every_type_schemas)("kept.row", All))
    store = SqlStores(database, Registry(every_type_schemas)).open(SOURCE, [spec])
    data = spec.codec.encode(value)
    try:
        store.check(b"kept\0k", data)
    except ValueError:
        return
    store.write([(b"kept\0k", data)], {})
    assert row_json(spec.codec.decode(store.get(b"kept\0k"))) == row_json(value)


@pytest.fixture(scope="module")
def every_type_schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_type.topology(tmp_path_factory.mktemp("every_type") / "schemas").schemas


def test_the_rows_of_the_bank_are_refused_beforehand_or_come_back(database: SqlDatabase) -> None:
    spec = TableSpec("customers", "customers.row", codecs(BANK.schemas)("customers.row", Profile))
    store = SqlStores(database, Registry(BANK.schemas)).open(SOURCE, [spec])
    rng, kept = random.Random(1), {}
    for key in KEYS:
        fitting = {"ref": Profile().ref, "since": 1_700_000_000_000, "seen": 0, "born": 0}
        for n, value in enumerate((profile(rng), replace(profile(rng), **fitting))):
            row, data = b"customers\0" + f"{key}{n}".encode(), spec.codec.encode(value)
            try:
                store.check(row, data)
            except ValueError:
                continue
            kept[row] = data
    assert len(kept) > len(KEYS) / 2
    store.write(list(kept.items()), {})
    read = spec.codec.decode  # a map may come back in another order
    assert {row: read(store.get(row)) for row in kept} == {row: read(data) for row, data in kept.items()}
    assert [(row, read(data)) for row, data in store.scan(b"customers\0", b"", 100)] == [
        (row, read(kept[row])) for row in sorted(kept)
    ]


def test_columns_are_of_the_databases_own_types(database: SqlDatabase) -> None:
    stores(database).open(SOURCE, [THINGS]).write([(b"things\0k", THINGS.codec.encode(THING))], {})
    table = sa.Table("things", sa.MetaData(), autoload_with=database._engine)
    with database.reading() as connection:
        (row,) = connection.execute(sa.select(table)).mappings()
    assert (row["row_key"], row["row_partition"]) == ("k", 0)
    assert (row["yes"], row["large"], row["size"], row["maybe"]) == (True, 2**63 - 1, "L", None)
    assert Decimal(row["price"]) == Decimal("5.67")
    assert row["at"].replace(tzinfo=UTC) == datetime(2009, 12, 1, 8, 5, 0, 123_000, UTC)
    assert row["lines"][0] == {"code": "TEA", "weight": 1, "seal": "/wA=", "since": 5}
    assert row["what"]["Line"]["code"] == "TEA"


@pytest.mark.parametrize(
    ("thing", "why"),
    [
        (replace(THING, text="a\0b"), "'text' contains a zero"),
        (replace(THING, counts={"a\0": 1}), "'counts' contains a zero"),
        (replace(THING, at=2**62), "out of the range"),
        (replace(THING, price=b"\0\0\0\1"), "without a change"),
    ],
)
def test_what_a_database_does_not_take_is_refused_beforehand(database: SqlDatabase, thing: Thing, why: str) -> None:
    store = stores(database).open(SOURCE, [THINGS])
    with pytest.raises(ValueError, match=why):
        store.check(b"things\0k", THINGS.codec.encode(thing))


@pytest.mark.parametrize("key", [b"a\0b", b"k" * 2001])
def test_so_is_a_key(database: SqlDatabase, key: bytes) -> None:
    store = stores(database).open(SOURCE, TABLES)
    with pytest.raises(ValueError, match="key"):
        store.check(b"t\0" + key, ONE)
    assert store.get(b"t\0" + key) is None
    longest = "ü".encode() * 1000
    store.write([(b"t\0" + longest, ONE)], {})
    assert store.get(b"t\0" + longest) == ONE


# --- what a person must see to ----------------------------------------------------------------------------------------


def test_a_database_belongs_to_one_service(database: SqlDatabase) -> None:
    database.check()
    other = SqlDatabase("other", database._engine.url)
    with pytest.raises(DatabaseUnusable, match="belongs to the service 'service'"):
        other.check()
    other.close()


def test_a_table_of_another_shape_is_told_and_not_touched(database: SqlDatabase) -> None:
    with database.transaction() as connection:
        database.claim(connection)
        connection.execute(sa.text("CREATE TABLE t (row_key TEXT PRIMARY KEY, row_partition INTEGER, text BIGINT)"))
        connection.execute(sa.text("INSERT INTO t VALUES ('a', 0, 7)"))
    with pytest.raises(DatabaseUnusable, match="drop the table"):
        stores(database).open(SOURCE, TABLES)
    assert rows(database, "SELECT text FROM t") == [(7,)]


def test_columns_of_ones_own_beside_those_of_the_rows_are_fine(database: SqlDatabase) -> None:
    stores(database).open(SOURCE, TABLES)
    with database.transaction() as connection:
        connection.execute(sa.text("ALTER TABLE t ADD COLUMN note TEXT"))
    store = stores(database).open(SOURCE, TABLES)
    store.write([(KEY, ONE)], {})
    assert store.get(KEY) == ONE


@pytest.mark.parametrize("text", ["mysql://host/name", "nonsense", "sqlite://", "postgresql://host"])
def test_an_address_that_is_none_is_told(text: str) -> None:
    with pytest.raises(DatabaseUnusable, match="postgresql://user@host/name"):
        database_url(text)


def test_a_server_that_is_away_is_told_and_found_again(postgres: Postgres) -> None:
    database = SqlDatabase("service", database_url(postgres.new_database().replace("postgres@", "postgres:secret@")))
    store = stores(database).open(SOURCE, TABLES)
    store.write([(KEY, ONE)], {"source:topic": 1})
    postgres.stop()
    try:
        with pytest.raises(DatabaseUnreachable, match="does not answer") as told:
            store.write([(KEY, TWO)], {"source:topic": 2})
        with pytest.raises(DatabaseUnreachable):
            database.check()
        assert "secret" not in str(told.value)
    finally:
        postgres.start()
    again = stores(database).open(SOURCE, TABLES)
    database.close()
    # What was committed last may be gone with the server, rows and positions together.
    assert (again.get(KEY), again.position("source:topic")) in ((ONE, 1), (None, None))

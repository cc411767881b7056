"""Topologies of random types, keys and values: a history with faults, then rows over HTTP and in SQLite."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs
from hypothesis import note
from hypothesis import strategies as st
from yarl import URL

from pipeline import Aggregate, Database, Projection, Reaction, Rejected, Replica, Send, Service, Source
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.json.reading import from_json
from pipeline.adapters.sql import SqlDatabase, SqlStores, database_url
from pipeline.client.wire.paths import path_part
from pipeline.engine.ports import TP, Store
from pipeline.engine.state.row_keys import table_prefix
from pipeline.engine.state.table import TableSpec
from pipeline.model import StateMessage
from pipeline.server.openapi import document
from pipeline.testing import Simulation, TestDriver
from pipeline.topology import Topology
from tests.helpers.every_type import command, event, record, register, state
from tests.helpers.json_schemas import whole_schema
from tests.unit.adapters.test_codec import Shape, records
from tests.unit.server.test_snapshot_read import Market

ODD_KEYS = (
    ".",
    "..",
    "a/..",
    "/",
    "%2e",
    "a\nb",
    "\r\n",
    "\0",
    " ",
    "\u2028",
    "e\u0301",
    "😀" * 128,
    "k" * 512,
    "?x#y",
    "watch",
)
NOTES = ("raise", "reject", "delete", "raise in evolve", "raise in route", "", "k" * 2_001)
KEYS = st.sampled_from(ODD_KEYS) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


class Case(NamedTuple):
    """What is drawn."""

    shape: Shape
    databases: tuple[Database, Database]
    commands: list[tuple[str, str, Any]]  # key, note, value
    seed: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    shape = draw(records())
    few = st.sampled_from(draw(st.lists(KEYS, min_size=1, max_size=3)))
    commands = st.tuples(few, KEYS | st.sampled_from(NOTES), shape.values.map(lambda pair: pair[0]))
    databases = st.sampled_from([Database.ROCKSDB, Database.SQLITE])
    return Case(
        shape, (draw(databases), draw(databases)), draw(st.lists(commands, max_size=6)), draw(st.integers(0, 2**31))
    )


def topology_of(case: Case, directory: Path) -> tuple[Topology, type]:
    """Two services around that type, and the class of the commands of the aggregate `things`."""
    schema, value = case.shape.schema, case.shape.annotation
    maybe, no = value | None, ["null", schema]
    put = dataclasses.make_dataclass("Put", [("value", value), ("note", str)], frozen=True)
    stored = dataclasses.make_dataclass("Stored", [("value", value), ("note", str)], frozen=True)
    kept = dataclasses.make_dataclass("Kept", [("value", maybe), ("times", int), ("sum", float)], frozen=True)
    row: Any = NamedTuple("Row", [("value", maybe), ("note", str), ("times", int)])
    message: Any = NamedTuple("Message", [("value", value)])
    echo: Any = NamedTuple("Echo", [("value", value)])

    def decide(command: Any, state: Any) -> Any:
        if command.note == "raise":
            raise ValueError("as asked")
        return Rejected("as_asked") if command.note == "reject" else [stored(command.value, command.note)]

    def evolve(state: Any, event: Any) -> Any:
        if event.note == "raise in evolve":
            raise ValueError("as asked")
        return kept(event.value, state.times + 1, state.sum + 0.1)

    def see(seen: Any, event: Any) -> Any:
        return None if event.note == "delete" else row(event.value, event.note, seen.times + 1)

    def route(key: str, event: Any) -> Iterator[tuple[str, Any]]:
        if event.note == "raise in route":
            raise ValueError("as asked")
        yield key, message(event.value)
        yield event.note, message(event.value)

    things: Any = Aggregate("things", put, stored, kept(None, 0, 0.0), decide, evolve)
    nothing = row(None, "", 0)
    rows = Projection(
        "rows", [things.events], nothing, see, database=case.databases[0], indexes={"note": lambda r: r.note}
    )
    routed: Any = Projection(
        "routed",
        [things.events],
        nothing,
        lambda seen, told: row(told.value, seen.note, seen.times + 1),
        by_key=message,
        route=route,
        database=case.databases[1],
    )
    source = Source("things.event", stored)
    echoes: Any = Aggregate(
        "echoes", echo, echo, row(None, "", 0), lambda c, _: [c], lambda s, e: s._replace(value=e.value)
    )
    two = Service(
        "two",
        aggregates=[echoes],
        reactions=[Reaction("echoing", source, lambda key, event: [Send(key, echo(event.value))])],
        replicas=[Replica("copies", source, nothing, see)],
    )
    of_row = record("Row", value=no, note="string", times="long")
    schemas = {
        "things.command": command(record("Put", value=schema, note="string")),
        "things.event": event(record("Stored", value=schema, note="string")),
        "things.state": state(record("Kept", value=no, times="long", sum="float")),
        "echoes.command": command(record("Echo", value=schema)),
        "echoes.event": event(record("Echo", value=schema)),
        "echoes.state": state(of_row),
        "rows.row": of_row,
        "routed.row": of_row,
        "routed.by_key": record("Message", value=schema),
        "copies.replica": of_row,
    }
    one = Service("one", aggregates=[things], projections=[rows, routed], raising_share=1)
    return Topology("fuzzed", {"one": one, "two": two}, register(directory, schemas)), put


def check(case: Case) -> None:
    """Play a history with faults, and read what a quiet one leaves. Raises AssertionError."""
    with tempfile.TemporaryDirectory() as home:
        topology, put = topology_of(case, Path(home) / "schemas")
        commands = [("things", key, put(value, text)) for key, text, value in case.commands]
        simulation = Simulation(topology, case.seed, commands=lambda rng: commands)
        note(f"schema: {json.dumps(case.shape.schema)}")
        findings = simulation.run().findings
        assert not findings, findings
        with TestDriver(topology, park=True) as driver:
            for aggregate, key, each in commands:
                driver.send(aggregate, key, each)
            tables = {table: driver.rows(table) for service in topology.services.values() for table in service.tables()}
            market = Market(driver, topology=topology)
            asyncio.run(_read(market, tables))
            asyncio.run(_read(Market(driver, market, topology), tables))
        _keep(topology, {name: tables[name] for name in ("rows", "routed")}, Path(home))


async def _read(market: Market, tables: dict[str, dict[str, Any]]) -> None:
    """Each row is as the table has it, in JSON that is as the OpenAPI document says."""
    strict = json.JSONDecoder(parse_constant=lambda name: no_json(name))
    async with market.client() as client:
        for table, rows in tables.items():
            listed: list[str] = []
            for key, row in rows.items():
                answer = await client.get(_url(table, key))
                text = await answer.text()
                assert answer.status == 200, (table, key, answer.status, text)
                body = strict.decode(text)
                assert body["key"] == key
                value = row.body if isinstance(row, StateMessage) else row
                assert from_json(type(value), body["row"], "row") == value, (body["row"], value)
                jsonschema_rs.validate(whole_schema(type(value)), body["row"])
                etag = {"If-None-Match": answer.headers["ETag"]}
                assert (await client.get(_url(table, key), headers=etag)).status == 304
            after: str | None = ""
            while after is not None:
                page = await client.get(
                    f"/v1/tables/{table}", params={"limit": "2"} | ({"after": after} if after else {})
                )
                assert page.status == 200, await page.text()
                found = await page.json()
                listed += [each["key"] for each in found["rows"]]
                after = found["next"]
            assert listed == sorted(rows, key=str.encode), (listed, sorted(rows))
            several = await client.post(f"/v1/tables/{table}/get", json={"keys": [*rows, "none of them"]})
            if several.status != 404:
                assert [each and each["key"] for each in (await several.json())["rows"]] == [*rows, None]
    strict.decode(json.dumps(document(market.router.topology)))


def _url(table: str, key: str) -> Any:
    return URL(f"/v1/tables/{table}/{path_part(key)}", encoded=True)


def no_json(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def _keep(topology: Topology, tables: dict[str, dict[str, Any]], home: Path) -> None:
    """Rows come back from SQLite."""
    make = codecs(topology.schemas)
    specs = [TableSpec(name, f"{name}.row", make(f"{name}.row", type(topology_row(topology, name)))) for name in tables]
    database = SqlDatabase("fuzzed", database_url(f"sqlite:///{home / 'tables.sqlite'}"))
    try:
        store = SqlStores(database, Registry(topology.schemas)).open(TP("topic", 0), specs)
        for spec in specs:
            encoded = {
                table_prefix(spec.name) + key.encode(): spec.codec.encode(row) for key, row in tables[spec.name].items()
            }
            written = {key: value for key, value in encoded.items() if _fits(store, key, value)}
            store.write(list(written.items()), {})
            read = spec.codec.decode  # a map may come back in another order
            due = {key: read(value) for key, value in written.items()}
            assert {key: read(value) for key, value in store.get_many(list(written)).items()} == due
            scanned = store.scan(table_prefix(spec.name), table_prefix(spec.name), 10_000)
            assert [(key, read(value)) for key, value in scanned] == sorted(due.items(), key=lambda pair: pair[0])
    finally:
        database.close()


def _fits(store: Store, key: bytes, value: bytes) -> bool:
    """Whether a database takes the row; what has a zero character is parked."""
    try:
        store.check(key, value)
    except ValueError as error:
        if "zero character" not in str(error):
            raise
        return False
    return True


def topology_row(topology: Topology, name: str) -> Any:
    """The first row of a projection."""
    return next(p.initial for p in topology.services["one"].projections if p.name == name)

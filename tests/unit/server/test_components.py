"""The OpenAPI document names the schemas of classes: each once, the same whatever else the topology has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from pipeline import Aggregate, Projection, Service
from pipeline.adapters.json.writing import json_text, to_json
from pipeline.model.fields import alternatives
from pipeline.server.openapi import document
from pipeline.topology import Topology, load
from tests.helpers.market import MARKET
from tests.typed import accounts
from topologies import inventory, users

SHOP = load("topologies")
TYPED = load("tests.typed", Path("schemas"))
REF = "#/components/schemas/"


def schemas(topology: Topology) -> dict[str, Any]:
    found: dict[str, Any] = document(topology)["components"]["schemas"]
    return found


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        yield from part.get("discriminator", {}).get("mapping", {}).values()
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        yield from references(each)


@pytest.mark.parametrize("topology", [SHOP, MARKET, TYPED], ids=lambda topology: topology.name)
def test_the_document_is_valid_and_whole(topology: Topology) -> None:
    found = json.loads(json_text(document(topology)))
    schemathesis.openapi.from_dict(found).validate()
    assert {*references(found)} == {f"{REF}{name}" for name in found["components"]["schemas"]}
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in found["components"]["schemas"])
    assert not any(properties.keys() >= {"name", "country"} for properties in inline(found["paths"]))


def inline(part: Any) -> Iterator[dict[str, Any]]:
    """The properties of objects that are in a part, and not referred to."""
    if isinstance(part, dict):
        if isinstance(part.get("properties"), dict):
            yield part["properties"]
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        yield from inline(each)


def test_each_command_event_row_and_state_has_a_name() -> None:
    found = schemas(SHOP)
    assert found.keys() >= {cls.__name__ for hint in (users.Command, users.Event) for cls in alternatives(hint)}
    assert found.keys() >= {"User", "Stock", "Customer", "CustomerCountry", "Line", "Problem", "Rejected", "users_row"}
    command = found["users_command"]
    assert command["oneOf"][0] == {"$ref": f"{REF}RegisterUser"}
    assert command["discriminator"]["mapping"]["ChangeName"] == f"{REF}ChangeName"
    operation = document(SHOP)["paths"]["/v1/commands/users/{key}"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": f"{REF}users_command"}
    rows = document(SHOP)["paths"]["/v1/tables/users/{key}"]["get"]["responses"]["200"]
    assert rows["content"]["application/json"]["schema"] == {"$ref": f"{REF}users_row"}
    assert found["users_row"]["properties"]["row"] == {"$ref": f"{REF}User"}


def test_what_is_written_fits_the_schema_of_its_name() -> None:
    found = document(TYPED)

    def check(name: str, told: Any) -> None:
        jsonschema_rs.validate({**found, "$ref": f"{REF}{name}"}, told)

    opened = accounts.Opened(*accounts.values(accounts.NOBODY))
    check("Opened", to_json(opened, tagged=True))
    check("Opened_plain", to_json(opened))
    check("accounts_event", to_json(opened, tagged=True))
    check("Account", to_json(accounts.Account(opened)))
    check("Holder", to_json(accounts.NOBODY))
    with pytest.raises(jsonschema_rs.ValidationError):
        check("Opened", to_json(opened))  # an event says its name


# --- names ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class User:
    """Named like the state of another service."""

    points: int = 0


@dataclass(frozen=True)
class Problem:
    """Named like a schema of every document."""

    users: tuple[users.User, ...] = ()


def projection(name: str, row: Any) -> Projection[Any, Any]:
    return Projection(name, [users.users.events], row, lambda row, event: row)


def topology(*services: Service) -> Topology:
    return Topology("some", {each.name: each for each in (users.service, *services)}, Path("schemas"))


def test_where_services_have_different_classes_of_one_name_each_has_the_name_of_its_service() -> None:
    alone, more = schemas(topology()), schemas(topology(Service("games", projections=[projection("score", User())])))
    assert "User" in alone
    assert "points" in more["games_User"]["properties"]
    assert "country" in more["users_User"]["properties"]
    assert more["users_row"]["properties"]["row"] == {"$ref": f"{REF}users_User"}
    assert more.keys() - alone.keys() == {"games_User", "users_User", "score_row"}
    assert alone.keys() - more.keys() == {"User"}


def test_other_services_change_no_name() -> None:
    alone, more = schemas(topology()), schemas(topology(inventory.service))
    assert alone.keys() < more.keys()
    assert all(more[name] == schema for name, schema in alone.items())


def test_the_names_of_every_document_are_taken_and_a_class_of_several_services_is_one() -> None:
    services = [Service("one", projections=[projection("a", Problem())])]
    services.append(Service("two", projections=[projection("b", Problem())]))
    found = schemas(topology(*services))
    assert "status" in found["Problem"]["properties"]
    assert found["a_row"]["properties"]["row"] == found["b_row"]["properties"]["row"] == {"$ref": f"{REF}one_Problem"}
    assert found["one_Problem"]["properties"]["users"]["items"] == {"$ref": f"{REF}User"}


def test_a_name_that_no_document_may_have_is_written_otherwise() -> None:
    row: Any = make_dataclass("Größe", [("at", int, 0)], frozen=True)()
    other: Any = make_dataclass("Größe", [("at", str, "")], frozen=True)()
    found = schemas(topology(Service("some", projections=[projection("a", row), projection("b", other)])))
    assert {name for name in found if name.startswith("some_")} == {"some_Gr__e", "some_Gr__e_2"}


def test_a_table_named_like_a_class_gets_a_number() -> None:
    row: Any = make_dataclass("users_row", [("at", int, 0)], frozen=True)()
    found = schemas(topology(Service("some", projections=[projection("a", row)])))
    assert {"users_row", "users_row_2"} <= found.keys()


def test_an_aggregate_with_upcasters_may_have_events_that_mean_nothing() -> None:
    @dataclass(frozen=True)
    class Old:
        name: str

    told: Aggregate[Any, Any, Any] = replace(users.users, upcasts={Old: lambda old: []}, unique=())
    paths = document(Topology("some", {"users": Service("users", [told])}, Path("schemas")))["paths"]
    schema = paths["/v1/history/users/{key}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    event = schema["properties"]["events"]["items"]["properties"]["event"]
    assert [each.get("type", each.get("$ref")) for each in event["oneOf"]] == [f"{REF}users_event", "null"]

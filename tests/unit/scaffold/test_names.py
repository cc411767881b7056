"""What projects and parts may be named, and what follows from these names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.broker import local
from pipeline.errors import ScaffoldError
from pipeline.scaffold.names import camel, check_part, package_of, singular
from pipeline.scaffold.rendering import PROJECT, rendered

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("name", "package"), [("shop", "shop"), ("my-shop", "my_shop"), ("shop2", "shop2")])
def test_a_project_may_be_named_so(name: str, package: str) -> None:
    assert package_of(name) == package


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("My Shop", "such as my-shop"),
        ("2shop", "such as shop"),
        ("shop-", "such as shop"),
        ("a/b", "such as a-b"),
        ("..", "a letter first"),
        ("", "a letter first"),
        ("x" * 41, "at most 40"),
        ("class", "a word of Python"),
        ("test", "hide the module 'test'"),
        ("pipeline", "hide the module 'pipeline'"),
        ("json", "hide the module 'json'"),
        ("fastavro", "hide the module 'fastavro'"),
        ("schemas", "a folder schemas"),
        ("tests", "a folder tests"),
    ],
)
def test_a_project_may_not_be_named_so(name: str, why: str) -> None:
    with pytest.raises(ScaffoldError, match=why):
        package_of(name)


@pytest.mark.parametrize(
    "name", ["Rooms", "room-s", "service", "list", "print", "import", "events", "commands", "decide", "1st", "", "_x"]
)
def test_a_part_may_not_be_named_so(name: str) -> None:
    with pytest.raises(ScaffoldError, match="cannot name an aggregate"):
        check_part("aggregate", name)


@pytest.mark.parametrize(
    ("many", "one", "kind"),
    [
        ("rooms", "room", "Room"),
        ("order_lines", "order_line", "OrderLine"),
        ("companies", "company", "Company"),
        ("boxes", "box", "Box"),
        ("addresses", "address", "Address"),
        ("status", "status", "Status"),
        ("stock", "stock", "Stock"),
        ("analysis", "analysis", "Analysis"),
    ],
)
def test_one_of_several_and_its_class(many: str, one: str, kind: str) -> None:
    assert singular(many) == one
    assert camel(one) == kind


def test_an_unknown_placeholder_is_an_error() -> None:
    with pytest.raises(KeyError):
        rendered(PROJECT, "pipeline.toml", {})


def test_containers_have_the_kafka_of_the_local_broker() -> None:
    for text in (rendered_compose(), (ROOT / "docker-compose.yml").read_text()):
        assert f"image: apache/kafka:{local.KAFKA_VERSION}\n" in text


def rendered_compose() -> str:
    return rendered(PROJECT, "compose.yaml", {"project": "shop", "package": "shop", "compose_source": ""})

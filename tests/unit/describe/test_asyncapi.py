"""An AsyncAPI document says of a topology what it declares: topics, schemas, senders, receivers, replies."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.adapters.avro.codec import codecs
from pipeline.cli import main
from pipeline.describe.asyncapi import asyncapi
from pipeline.engine.plan import ServicePlan
from pipeline.model import TopicKind
from pipeline.topology import Topology, load
from tests.bank.traffic import BANK

SHOP = load("topologies")
DOCUMENT = asyncapi(SHOP, version="1.0.0", partitions=6)


def plans(topology: Topology) -> list[ServicePlan]:
    return [ServicePlan(each, codecs(topology.schemas), secret=b"0" * 32) for each in topology.services.values()]


def operation(name: str) -> Any:
    return DOCUMENT["operations"][name]


@pytest.mark.parametrize("topology", [SHOP, BANK], ids=["shop", "bank"])
def test_each_topic_is_a_channel_that_its_owner_sends_to_and_its_followers_receive_from(topology: Topology) -> None:
    document = asyncapi(topology, version="1.0.0")
    kinds = {topic: kind for plan in plans(topology) for topic, kind in plan.own_topics()}
    assert document["channels"].keys() == {*kinds, "reply"}
    operations = set(document["operations"])
    for plan in plans(topology):
        name = plan.service.name
        own = {topic for topic, kind in plan.own_topics() if kind is not TopicKind.COMMAND}
        assert {f"{name}.send.{topic}" for topic in own | set(plan.asked_topics())} <= operations
        read = {*plan.source_topics, *(replica.source.topic for replica, *_ in plan.replicas)}
        prefix = f"{name}.receive."
        assert {each.removeprefix(prefix) for each in operations if each.startswith(prefix)} == read


def test_a_message_is_the_schema_of_its_topic() -> None:
    for topic in ("orders.event", "customers.by_key"):
        payload = DOCUMENT["components"]["messages"][topic]["payload"]
        assert payload["schemaFormat"].startswith("application/vnd.apache.avro")
        assert payload["schema"] == json.loads((SHOP.schemas / f"{topic}.avsc").read_text())
    message = DOCUMENT["components"]["messages"]["orders.event"]
    assert message["summary"].startswith("What happened to a sales document")
    assert "- OrderConfirmed: An order that was placed has its stock and is paid for." in message["description"]
    assert message["bindings"]["kafka"]["key"] == {"type": "string"}


def test_a_channel_says_how_its_topic_is_kept() -> None:
    events, states = (DOCUMENT["channels"][f"orders.{kind}"]["bindings"]["kafka"] for kind in ("event", "state"))
    assert (events["topic"], events["partitions"]) == ("orders.event", 6)
    assert events["topicConfiguration"] == {"cleanup.policy": ["delete"], "retention.ms": -1, "retention.bytes": -1}
    assert states["topicConfiguration"]["cleanup.policy"] == ["compact"]
    assert DOCUMENT["channels"]["orders.positions"]["bindings"]["kafka"]["partitions"] == 1
    unsaid = asyncapi(SHOP, version="1.0.0")["channels"]["orders.event"]["bindings"]["kafka"]
    assert "partitions" not in unsaid


def test_a_command_is_replied_to_where_its_sender_says() -> None:
    assert operation("orders.receive.orders.command")["reply"]["channel"] == {"$ref": "#/channels/reply"}
    assert operation("orders.receive.orders.command")["reply"]["address"]["location"] == "$message.payload#/reply_to"
    asked = operation("checkout_saga.send.payments.command")
    assert asked["reply"]["channel"] == {"$ref": "#/channels/checkout_saga.command"}
    assert "reply" not in operation("users.send.user_emails.command")
    assert DOCUMENT["channels"]["reply"]["address"] is None


def test_services_say_what_their_modules_do() -> None:
    tags = {tag["name"]: tag["description"] for tag in DOCUMENT["info"]["tags"]}
    assert tags.keys() == SHOP.services.keys()
    assert tags["users"] == "The users service: owns who a customer is."
    assert operation("reports.receive.orders.event")["bindings"]["kafka"]["groupId"]["enum"] == ["reports"]
    assert operation("orders.receive.users.event")["description"] == "- customer_countries keeps a copy"


def test_what_is_private_can_be_left_out() -> None:
    document = asyncapi(SHOP, version="1.0.0", public=True)
    kinds = {channel["tags"][0]["name"] for name, channel in document["channels"].items() if name != "reply"}
    assert kinds == {"command", "event", "state", "row"}
    assert "user_emails.command" not in document["channels"]
    used = {part["channel"]["$ref"].rpartition("/")[2] for part in document["operations"].values()}
    assert used <= document["channels"].keys()


def test_the_topics_of_others_are_named_but_not_configured() -> None:
    document = asyncapi(SHOP.only("reports"), version="1.0.0")
    assert document["channels"]["orders.event"]["bindings"]["kafka"] == {
        "topic": "orders.event",
        "bindingVersion": "0.5.0",
    }
    assert [name for name in document["operations"] if name.endswith("send.orders.event")] == []


def test_the_command_writes_the_same_each_time(tmp_path: Path) -> None:
    for name in "ab":
        arguments = ["docs", "asyncapi", "topologies", "--out", str(tmp_path / name)]
        assert CliRunner().invoke(main, arguments).exit_code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text()) == asyncapi(SHOP, version="1.0.0")

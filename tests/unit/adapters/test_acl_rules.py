"""Who may do what: each service's own, what it follows, whom it asks; and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AclBinding, AdminClient  # type: ignore[attr-defined]  # there, if not in __all__

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import connection
from pipeline.adapters.kafka.access.acls import apply_acls, bindings
from pipeline.adapters.kafka.access.rules import Principals, Rule, rules
from pipeline.cli import main
from pipeline.engine.plan import ServicePlan
from pipeline.errors import ClientConfigError, TopicError
from pipeline.topology import Topology


def allowed(topology: Topology, who: Principals | None = None) -> list[Rule]:
    plans = [ServicePlan(service, codecs(topology.schemas), topology.names) for service in topology.chosen(())]
    return rules(topology, plans, who or Principals({}, {}))


def who_may(found: list[Rule], operation: str, topic: str) -> set[str]:
    return {
        rule.principal.removeprefix("User:")
        for rule in found
        if (rule.resource, rule.name) == ("topic", topic) and operation in rule.operations
    }


def test_nobody_else_reads_what_is_private_or_writes_what_is_not_asked(shop_topology: Topology) -> None:
    found = allowed(shop_topology)
    for private in ("users.command", "users.replies", "users.deadlines", "users.users.command.queue", "users.parked"):
        assert who_may(found, "READ", private) == {"users"}, private
    assert who_may(found, "READ", "user_emails.event") == {"users"}
    assert who_may(found, "READ", "users.event") == {"users", "orders", "reports"}
    assert who_may(found, "WRITE", "users.event") == {"users"}
    assert who_may(found, "WRITE", "users.command") == {"users"}
    assert who_may(found, "WRITE", "payments.command") == {"payments", "checkout_saga", "checkout_2pc"}
    assert who_may(found, "READ", "payments.command") == {"payments"}
    assert who_may(found, "WRITE", "checkout_saga.command") == {"checkout_saga", "orders", "inventory", "payments"}, (
        "whoever is asked answers there"
    )
    assert who_may(found, "READ", "revenue.by_key") == {"reports"}


def test_groups_and_transactions_are_a_services_own(shop_topology: Topology) -> None:
    found = allowed(shop_topology)
    joins = {r.principal for r in found if (r.resource, r.name) == ("group", "orders") and "READ" in r.operations}
    assert joins == {"User:orders"}
    writes = [rule for rule in found if rule.resource == "transactional_id" and rule.name == "orders-"]
    assert writes == [Rule("User:orders", "transactional_id", "orders-", ("DESCRIBE", "WRITE"), True)]


def test_requesters_send_to_whom_commands_may_be_sent_from_outside(shop_topology: Topology) -> None:
    found = allowed(shop_topology, Principals({"orders": "User:CN=o"}, {"cli": "User:anna"}))
    assert {
        r.name for r in found if r.principal == "User:anna" and r.resource == "topic" and "WRITE" in r.operations
    } == {
        *(f"{name}.command" for name in ("users", "inventory", "payments", "orders", "checkout_saga", "checkout_2pc")),
        "cli.reply",
        "pipeline.schemas",
    }
    assert who_may(found, "READ", "cli.reply") == {"anna"}
    assert {"CN=o", "users"} <= who_may(found, "WRITE", "cli.reply")
    assert who_may(found, "READ", "orders.replies") == {"CN=o"}


def test_names_are_those_of_the_cluster(shop_topology: Topology) -> None:
    names = {"users.event": "crm.users", "orders": "shop", "users.command": "crm.in"}
    found = allowed(replace(shop_topology, names=names))
    assert who_may(found, "READ", "crm.users") == {"users", "orders", "reports"}
    assert who_may(found, "READ", "users.event") == set()
    assert {r.name for r in found if r.principal == "User:orders" and r.resource == "transactional_id"} == {"shop-"}


def test_each_operation_is_an_acl(shop_topology: Topology) -> None:
    found = allowed(shop_topology)
    assert len(bindings(found)) == sum(len(rule.operations) for rule in found)


def test_they_are_shown_as_lines_or_as_json() -> None:
    run = CliRunner().invoke(main, ["topics", "acls", "topologies", "--service", "orders"])
    assert "User:orders  transactional_id orders-*  DESCRIBE WRITE" in run.output.splitlines()
    assert "User:users" not in run.output
    run = CliRunner().invoke(main, ["topics", "acls", "topologies", "--json", "--principal", "orders=User:o"])
    told = [json.loads(line) for line in run.output.splitlines()]
    assert {each["principal"] for each in told} >= {"User:o", "User:users"}
    assert CliRunner().invoke(main, ["topics", "acls", "topologies", "--principal", "orders"]).exit_code == 2
    assert CliRunner().invoke(main, ["topics", "acls", "topologies", "--principal", "nobody=User:o"]).exit_code == 2


def test_a_file_says_how_to_get_in_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_CLIENT_CONFIG", raising=False)
    assert connection("here:1") == {"bootstrap.servers": "here:1"}
    file = tmp_path / "client.properties"
    file.write_text("# who we are\n\nsasl.username = orders\nsasl.password=a=b\n")
    monkeypatch.setenv("PIPELINE_CLIENT_CONFIG", str(file))
    assert connection("here:1") == {"bootstrap.servers": "here:1", "sasl.username": "orders", "sasl.password": "a=b"}
    wrong = tmp_path / "wrong.properties"
    wrong.write_text("isolation.level=read_uncommitted\n")
    monkeypatch.setenv("PIPELINE_CLIENT_CONFIG", str(wrong))
    with pytest.raises(ClientConfigError, match=r"'isolation\.level' is no setting"):
        connection("here:1")
    monkeypatch.setenv("PIPELINE_CLIENT_CONFIG", str(tmp_path / "none"))
    with pytest.raises(ClientConfigError, match="cannot be read"):
        connection("here:1")


class SlowCluster:
    """Its controller takes ACLs at once; its broker goes by them one question later for each."""

    def __init__(self, stuck: int = 0) -> None:
        self.stuck = stuck  # how many it never comes to
        self.taken: list[AclBinding] = []
        self.asked = 0

    def create_acls(self, wanted: Iterable[AclBinding], **_: Any) -> dict[AclBinding, Future[None]]:
        self.taken = list(wanted)
        return {binding: answer(None) for binding in self.taken}

    def describe_acls(self, *_: Any, **__: Any) -> Future[list[AclBinding]]:
        self.asked += 1
        return answer(self.taken[: min(self.asked, len(self.taken) - self.stuck)])


def answer(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


RULES = [Rule("User:a", "topic", "a.event", ("READ", "DESCRIBE")), Rule("User:b", "topic", "b.event", ("WRITE",))]


def test_acls_are_applied_once_the_broker_goes_by_all_of_them() -> None:
    cluster = SlowCluster()
    assert apply_acls(cast(AdminClient, cluster), RULES) == 3
    assert cluster.asked == 3
    assert apply_acls(cast(AdminClient, cluster), []) == 0


def test_acls_that_the_broker_does_not_come_to_are_told() -> None:
    with pytest.raises(TopicError, match=r"took 3 ACLs, but after 0 s .* 1 of them, such as .*b\.event.*log"):
        apply_acls(cast(AdminClient, SlowCluster(stuck=1)), RULES, 0.2)

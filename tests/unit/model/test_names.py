"""Topics and groups that are called otherwise than declared: the engine uses those names, schemas keep theirs."""

from pipeline.adapters.avro.codec import codecs
from pipeline.engine.plan import ServicePlan
from pipeline.topology import Topology

NAMES = {
    "orders": "shop-group",
    "orders.command": "shop.in",
    "orders.event": "shop.out",
    "orders.state": "shop.table",
    "orders.parked": "shop.dead",
    "users.event": "crm.users",
    "reports": "figures",
    "revenue.by_key": "figures.keyed",
    "revenue.row": "figures.revenue",
}


def test_a_service_reads_and_writes_by_the_names_of_the_cluster(shop_topology: Topology) -> None:
    make = codecs(shop_topology.schemas)
    orders = ServicePlan(shop_topology.services["orders"], make, NAMES)
    assert orders.group == "shop-group"
    assert orders.parked == "shop.dead"
    assert "shop.in" in orders.source_topics
    assert {"shop.in", "shop.out", "shop.table"} <= {topic for topic, _ in orders.own_topics()}
    assert {"shop.out", "shop.table"} <= set(orders.co_partitioned()["shop.in"])
    assert [replica.source.topic for replica, _, _ in orders.replicas] == ["crm.users"]
    assert "crm.users" in orders.followed_topics()


def test_a_follower_reads_by_them_too(shop_topology: Topology) -> None:
    reports = ServicePlan(shop_topology.services["reports"], codecs(shop_topology.schemas), NAMES)
    assert {"shop.out", "figures.keyed"} <= reports.source_topics.keys()
    assert reports.co_partitioned()["figures.keyed"] == ["reports.revenue.by_key.queue", "figures.revenue"]
    declared = ServicePlan(shop_topology.services["reports"], codecs(shop_topology.schemas))
    assert {"orders.event", "revenue.by_key"} <= declared.source_topics.keys()

"""The picture of a topology has all that is declared, and the README's is the one that the command draws."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline import Aggregate, Database, Projection, Reaction, Replica, Service, Source
from pipeline.adapters.avro.schemas.files import plan_without_codecs
from pipeline.cli import main
from pipeline.describe.graph import mermaid
from pipeline.model import TopicKind
from pipeline.topology import Topology, load
from tests.bank.traffic import BANK

README = Path(__file__).parents[3] / "README.md"
SHOP = load("topologies")


@dataclass(frozen=True)
class Thing:
    name: str = ""


def aggregate(name: str, **more: object) -> Aggregate:
    return Aggregate(
        name, Thing, Thing, Thing(), lambda command, state, *copies: [], lambda state, event: state, **more
    )


def picture(*services: Service, private: bool = False) -> list[str]:
    topology = Topology("mine", {service.name: service for service in services}, Path("schemas"))
    return [line.strip() for line in mermaid(topology, private=private).splitlines()]


def test_the_picture_in_the_readme_is_the_shop() -> None:
    (block,) = re.findall(r"```mermaid\n(.*?)```", README.read_text(), re.DOTALL)
    drawn = CliRunner().invoke(main, ["docs", "graph", "topologies"])
    assert drawn.exit_code == 0
    assert block == drawn.output, "the shop has changed; put the output of `pipeline docs graph topologies` there"


def test_arrows_go_as_data_does() -> None:
    other = Source("others.event", Thing)
    copy = Replica("copies", other, Thing(), lambda row, event: row)
    owner = Service(
        "owner",
        aggregates=[aggregate("things", asks={"strangers": Thing, "seconds": Thing}, reads=copy), aggregate("seconds")],
        replicas=[copy],
    )
    follower = Service(
        "follower",
        reactions=[Reaction("moves", Source("things.event", Thing), lambda key, event: [])],
        projections=[
            Projection("rows", [other], Thing(), lambda row, event: row),
            Projection(
                *("sums", [Source("things.event", Thing)], Thing(), lambda row, event: row),
                by_key=Thing,
                route=lambda key, event: [],
                database=Database.POSTGRESQL,
            ),
        ],
    )
    lines = picture(owner, follower)
    assert {line for line in lines if "-->" in line or "<-.->" in line} == {
        "topic_others-event --> replica_copies",
        "replica_copies --> aggregate_things",
        "aggregate_things --> topic_things-event",
        "aggregate_things <-.-> topic_strangers-command",
        "aggregate_things <-.-> aggregate_seconds",
        "aggregate_seconds --> topic_seconds-event",
        "topic_things-event --> reaction_moves",
        "topic_others-event --> projection_rows",
        "topic_things-event --> projection_sums",
    }
    assert 'projection_sums[("sums<br>projection in PostgreSQL")]' in lines
    outside = lines[max(n for n, line in enumerate(lines) if line == "end") + 1 :]
    assert {line for line in outside if " " not in line} == {
        'topic_others-event>"others.event"]',
        'topic_strangers-command>"strangers.command"]',
    }


REVISED = Topology("mine", {"owner": Service("owner", aggregates=[aggregate("things", revision=2)])}, SHOP.schemas)


@pytest.mark.parametrize("topology", [SHOP, BANK, REVISED], ids=["shop", "bank", "revised"])
def test_all_topics_are_there_if_asked_for(topology: Topology) -> None:
    plans = [plan_without_codecs(service) for service in topology.services.values()]
    kinds = {topic: kind for plan in plans for topic, kind in plan.own_topics()}
    drawn = set(re.findall(r'>"([\w.]+)"\]', mermaid(topology, private=True)))
    assert drawn == kinds.keys()
    by_default = set(re.findall(r'>"([\w.]+)"\]', mermaid(topology)))
    assert {kinds[topic] for topic in by_default} == {TopicKind.EVENT}


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("topology", [SHOP, BANK], ids=["shop", "bank"])
def test_an_arrow_joins_what_is_drawn(topology: Topology, private: bool) -> None:
    lines = mermaid(topology, private=private).splitlines()
    drawn = {found[1] for line in lines if (found := re.match(r"\s+([a-z]+_[\w-]+)[>(\[{]", line))}
    arrows = [re.fullmatch(r"\s+(\S+) (?:-->|<-\.->) (\S+)", line) for line in lines]
    ends = {end for arrow in arrows if arrow for end in arrow.groups()}
    assert ends
    assert ends <= drawn


def test_two_versions_of_a_projection_are_in_the_box_of_their_service() -> None:
    def rows(version: int) -> Projection:
        source = Source("things.event", Thing)
        return Projection("rows", [source], Thing(), lambda row, event: row, version=version)

    lines = picture(Service("owner", aggregates=[aggregate("things")], projections=[rows(1), rows(2)]))
    assert [line for line in lines if line.startswith("subgraph")] == ['subgraph service_owner["owner"]']
    assert [line.partition("[")[0] for line in lines if line.startswith("projection_")] == [
        "projection_rows",
        "projection_rows_v2",
    ]

"""A picture of a topology in Mermaid: services as boxes, and in them what they own, follow and keep.

Arrows go as data does. The result depends on the declarations alone, so that it can be committed and compared.
"""

from __future__ import annotations

from typing import Any

from pipeline.model import Aggregate, Database, Projection, Saga, Service, TopicKind
from pipeline.model.projection.versions import declared_name
from pipeline.model.reservation import decide_reservation
from pipeline.topology import Topology

# kind of node -> what stands around its text. Tables are drawn as databases.
SHAPES = {
    "topic": ('>"', '"]'),
    "aggregate": ('(["', '"])'),
    "saga": ('{{"', '"}}'),
    "reaction": ('["', '"]'),
    "projection": ('[("', '")]'),
    "replica": ('[("', '")]'),
}
FLOWS, ASKS = "-->", "<-.->"  # a question goes there, its reply comes back


def mermaid(topology: Topology, *, private: bool = False) -> str:
    """Return the flowchart.

    `private`: with the topics that services keep for themselves, such as changelogs and queues; otherwise of all topics
    only event logs are shown, and commands are arrows into their aggregate.
    """
    return _Graph(topology, private).text()


class _Graph:
    def __init__(self, topology: Topology, private: bool) -> None:
        self._private = private
        self._boxes: dict[str, dict[str, str]] = {}  # service -> node -> its line
        self._outside: dict[str, str] = {}  # what belongs to services of other topologies
        self._arrows: dict[str, None] = {}  # in order, each once
        services = [topology.services[name] for name in sorted(topology.services)]
        self._followed = {source.topic for service in services for source in service.sources()}
        self._kinds = {aggregate.name: "aggregate" for service in services for aggregate in service.owned}
        self._kinds |= dict.fromkeys(topology.sagas, "saga")
        for service in services:
            self._draw(service)

    def text(self) -> str:
        """Return the lines: boxes first, then what stands outside of them, then the arrows."""
        lines = ["flowchart LR"]
        for service, nodes in self._boxes.items():
            lines += [
                f'    subgraph service_{service}["{service}"]',
                *(f"        {n}" for n in nodes.values()),
                "    end",
            ]
        lines += [f"    {line}" for line in (*self._outside.values(), *self._arrows)]
        return "\n".join(lines) + "\n"

    # --- parts --------------------------------------------------------------------------------------------------------

    def _draw(self, service: Service) -> None:
        box = self._boxes.setdefault(service.part_of or service.name, {})
        sagas = {saga.name: saga for saga in service.sagas}
        for aggregate in service.owned:
            self._draw_aggregate(box, aggregate, sagas.get(aggregate.name))
        for reaction in service.reactions:
            node = self._add(box, "reaction", reaction.name, f"{reaction.name}<br>reaction")
            self._arrow(self._topic(reaction.source.topic), node)
            for taker in service.addressed:
                self._arrow(node, self._into(taker.name))
        for projection in service.projections:
            self._draw_projection(box, projection)
        for replica in service.replicas:
            node = self._add(box, "replica", replica.name, f"{replica.name}<br>replica")
            self._arrow(self._topic(replica.source.topic), node)
        if self._private:
            self._draw_lane(box, service)

    def _draw_aggregate(self, box: dict[str, str], aggregate: Aggregate[Any, Any, Any], saga: Saga[Any] | None) -> None:
        kind = "saga" if saga else "aggregate"
        node, event = self._add(box, kind, aggregate.name, aggregate.name), TopicKind.EVENT.topic(aggregate.name)
        by_the_engine = saga is not None or aggregate.decide is decide_reservation
        if self._private:
            self._arrow(self._add_topic(box, TopicKind.COMMAND.topic(aggregate.name)), node)
            kept = [TopicKind.REPLIES] * (aggregate.idempotency is not None) + [
                TopicKind.DEADLINES
            ] * aggregate.deadlines
            for topic in (aggregate.states, *(kind.topic(aggregate.name) for kind in kept)):
                self._arrow(node, self._add_topic(box, topic))
        if self._private or event in self._followed or not by_the_engine:
            self._arrow(node, self._add_topic(box, event))
        for unique in aggregate.unique:
            self._arrow(node, self._into(unique.name), ASKS)
        for asked in sorted(aggregate.asks):
            self._arrow(node, self._into(asked), ASKS)
        for replica in aggregate.replicas:
            self._arrow(f"replica_{replica.name}", node)

    def _draw_projection(self, box: dict[str, str], projection: Projection[Any, Any]) -> None:
        kept = "" if projection.database is Database.ROCKSDB else f" in {projection.database.value}"
        node = self._add(box, "projection", projection.name, f"{projection.name}<br>projection{kept}")
        entrance = node
        if self._private:
            if projection.route is not None:
                entrance = self._add_topic(box, TopicKind.BY_KEY.topic(projection.name))
                self._arrow(entrance, node)
            self._arrow(node, self._add_topic(box, TopicKind.ROW.topic(projection.name)))
            if projection.version > 1:
                self._arrow(node, self._add_topic(box, TopicKind.VERSIONS.topic(declared_name(projection))))
        for source in projection.sources:
            self._arrow(self._topic(source.topic), entrance)

    def _draw_lane(self, box: dict[str, str], service: Service) -> None:
        """Draw what a service writes about each topic that it folds: records that wait, and how far it is."""
        parked = self._add_topic(box, TopicKind.PARKED.topic(service.name))
        positions = self._add_topic(box, TopicKind.POSITIONS.topic(service.name))
        for topic in service.source_topics():
            queue = self._add_topic(box, TopicKind.QUEUE.topic(f"{service.name}.{topic}"))
            self._arrow(self._topic(topic), queue)
            self._arrow(queue, parked)
            self._arrow(self._topic(topic), positions)

    # --- nodes and arrows ---------------------------------------------------------------------------------------------

    def _add(self, box: dict[str, str], kind: str, name: str, text: str) -> str:
        node, (before, behind) = f"{kind}_{name.replace('.', '-')}", SHAPES[kind]
        box[node] = f"{node}{before}{text}{behind}"
        return node

    def _add_topic(self, box: dict[str, str], topic: str) -> str:
        return self._add(box, "topic", topic, topic)

    def _topic(self, topic: str) -> str:
        """Return the node of a topic, which stands outside if its owner is in another topology."""
        kind, owner = TopicKind.of(topic), topic.rpartition(".")[0]
        if kind in (TopicKind.EVENT, TopicKind.COMMAND) and owner not in self._kinds:
            return self._add_topic(self._outside, topic)
        return f"topic_{topic.replace('.', '-')}"

    def _into(self, aggregate: str) -> str:
        """Return the node that takes the commands of an aggregate, or of a saga."""
        if self._private or aggregate not in self._kinds:
            return self._topic(TopicKind.COMMAND.topic(aggregate))
        return f"{self._kinds[aggregate]}_{aggregate}"

    def _arrow(self, start: str, end: str, kind: str = FLOWS) -> None:
        self._arrows[f"{start} {kind} {end}"] = None

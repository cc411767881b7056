"""A topology as an AsyncAPI 3 document: topics as channels, their Avro schemas as messages, who sends and receives.

The result depends on the declarations and the schemas alone, so that it can be committed and compared.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pipeline.adapters.avro.registry import Registry, Schema
from pipeline.adapters.avro.schemas.files import plan_without_codecs
from pipeline.adapters.kafka.topic_settings import POLICY, SETTINGS
from pipeline.adapters.kafka.topics import SINGLE
from pipeline.engine.plan import ServicePlan
from pipeline.model import Service, TopicKind
from pipeline.topology import Topology

FORMAT = "application/vnd.apache.avro;version=1.9.0"
BINDING = "0.5.0"
REPLY = TopicKind.REPLY.value
WIRE = (
    "Values are Avro in the Confluent wire format: a zero byte, four bytes with the id of the schema, the record. "
    "Keys are text unless a channel says otherwise; they are partitioned with murmur2."
)


class About(NamedTuple):
    """What is the same in all topics of a kind. `schema`: the engine's, if the topic has none of its own."""

    meaning: str
    schema: str = ""
    key: str = "text"


KINDS = {
    TopicKind.COMMAND: About("What is asked of an aggregate. Record key: the aggregate's id."),
    TopicKind.EVENT: About("The event log of an aggregate, kept for ever. Record key: the aggregate's id."),
    TopicKind.STATE: About("The current state of each aggregate. Record key: the aggregate's id."),
    TopicKind.ROW: About("The current rows of a projection."),
    TopicKind.BY_KEY: About("What a projection is folded from, by the keys of its rows."),
    TopicKind.REPLIES: About("Replies, to be given again when a command is repeated.", "reply", "bytes"),
    TopicKind.DEADLINES: About("What an aggregate is to be sent later.", "deadlines", "bytes"),
    TopicKind.REPLY: About("Replies to the commands of one requester.", "reply"),
    TopicKind.QUEUE: About(
        "Records of a topic that wait, by key, as one before them could not be folded.", "queue", "bytes"
    ),
    TopicKind.PARKED: About(
        "Copies of records that could not be folded, each with its cause in the headers.", key="any"
    ),
    TopicKind.POSITIONS: About("How far a service has folded its topics.", key="bytes"),
    TopicKind.VERSIONS: About("Which version of a projection readers get, as JSON."),
}
NO_SCHEMA = (TopicKind.PARKED, TopicKind.POSITIONS, TopicKind.VERSIONS)


def asyncapi(topology: Topology, *, version: str, partitions: int | None = None, public: bool = False) -> Any:
    """Return the document, as JSON can hold it. Raises SchemaError.

    `version`: of the document. `partitions`: how many each topic was created with; None: it is not said. `public`:
    leave out what services keep for themselves.
    """
    return _Document(topology, Registry(topology.schemas), partitions, public).document(version)


class _Document:
    def __init__(self, topology: Topology, registry: Registry, partitions: int | None, public: bool) -> None:
        self._topology, self._registry = topology, registry
        self._partitions, self._public = partitions, public
        self._channels: dict[str, Any] = {}
        self._messages: dict[str, Any] = {}
        self._operations: dict[str, Any] = {}
        self._tags: dict[str, str] = {}
        self._engines = {unique.name for s in topology.services.values() for a in s.aggregates for unique in a.unique}

    def document(self, version: str) -> Any:
        """Return it, each part in the order of names."""
        for name in sorted(self._topology.services):
            self._add_service(self._topology.services[name])
        return {
            "asyncapi": "3.0.0",
            "info": {
                "title": self._topology.name,
                "version": version,
                "description": WIRE,
                "tags": [{"name": name, "description": text} for name, text in self._tags.items()],
            },
            "defaultContentType": "avro/binary",
            "channels": dict(sorted(self._channels.items())),
            "operations": dict(sorted(self._operations.items())),
            "components": {"messages": dict(sorted(self._messages.items()))},
        }

    def _add_service(self, service: Service) -> None:
        box = service.part_of or service.name
        doc = self._topology.docs.get(box, "")
        self._tags[box] = doc.partition("\n\n")[0].replace("\n", " ")
        plan = plan_without_codecs(service)
        for topic, kind in plan.own_topics():
            self._add_channel(topic, kind, box)
        for receives, found in ((True, self._received(service)), (False, self._sent(plan))):
            said: dict[str, list[str]] = {}
            for topic, text in found:
                said.setdefault(topic, []).append(text)
            for topic, texts in said.items():
                self._add_operation(service, topic, list(dict.fromkeys(texts)), receives=receives)

    # --- who sends and receives what ----------------------------------------------------------------------------------

    def _received(self, service: Service) -> Iterator[tuple[str, str]]:
        """Return each topic that a service reads, once for each thing that it does about it."""
        for aggregate in service.owned:
            yield TopicKind.COMMAND.topic(aggregate.name), _said(f"{aggregate.name} decides it", aggregate.decide)
        for reaction in service.reactions:
            yield reaction.source.topic, _said(f"{reaction.name} reacts", reaction.react)
        for projection in service.projections:
            for source in projection.sources:
                if projection.route is None:
                    yield source.topic, _said(f"{projection.name} folds it into its rows", projection.evolve)
                else:
                    yield (
                        source.topic,
                        _said(f"{projection.name} sends it on by the keys of its rows", projection.route),
                    )
            if projection.route is not None:
                topic = TopicKind.BY_KEY.topic(projection.name)
                yield topic, _said(f"{projection.name} folds it into its rows", projection.evolve)
        for replica in service.replicas:
            yield replica.source.topic, _said(f"{replica.name} keeps a copy", replica.evolve)

    def _sent(self, plan: ServicePlan) -> Iterator[tuple[str, str]]:
        """Return each topic that a service writes, with why."""
        for topic, kind in plan.own_topics():
            if kind is not TopicKind.COMMAND:
                yield topic, KINDS[kind].meaning
        for aggregate in plan.service.owned:
            if aggregate.deadlines:
                yield TopicKind.COMMAND.topic(aggregate.name), f"{aggregate.name} is sent what is due"
            for unique in aggregate.unique:
                yield TopicKind.COMMAND.topic(unique.name), f"{aggregate.name} reserves unique values"
            for name in aggregate.asks:
                yield TopicKind.COMMAND.topic(name), f"{aggregate.name} asks {name}"
        for reaction in plan.service.reactions:
            for taker in plan.service.addressed:
                yield TopicKind.COMMAND.topic(taker.name), f"{reaction.name} reacts to {reaction.source.topic}"

    def _add_operation(self, service: Service, topic: str, texts: list[str], *, receives: bool) -> None:
        kind = TopicKind.of(topic)
        assert kind is not None
        if topic not in self._channels:
            self._add_channel(topic, kind, None)  # another topology's
        if topic not in self._channels:
            return
        operation: dict[str, Any] = {
            "action": "receive" if receives else "send",
            "channel": {"$ref": f"#/channels/{topic}"},
            "title": f"{service.name} {'receives' if receives else 'sends'} {topic}",
            "description": "\n".join(f"- {text}" for text in texts),
            "tags": [{"name": service.part_of or service.name}],
            "messages": [{"$ref": f"#/channels/{topic}/messages/{topic}"}],
        }
        grouped = receives and topic in service.source_topics()
        if grouped:
            group = self._topology.names.get(service.name, service.name)
            operation["bindings"] = {
                "kafka": {"groupId": {"type": "string", "enum": [group]}, "bindingVersion": BINDING}
            }
        if reply := self._reply(service, topic, kind, receives):
            operation["reply"] = reply
        self._operations[f"{service.name}.{operation['action']}.{topic}"] = operation

    def _reply(self, service: Service, topic: str, kind: TopicKind, receives: bool) -> Any:
        """Return where the reply to a command goes; None if there is none."""
        owner = topic.rpartition(".")[0]
        if kind is not TopicKind.COMMAND or owner in self._engines:
            return None
        if receives:
            self._add_reply_channel()
            where = "`<topic>/<partition>/<key>`; null if the sender does not wait for a reply"
            address = {"location": "$message.payload#/reply_to", "description": where}
            return {"address": address, "channel": {"$ref": f"#/channels/{REPLY}"}, "messages": [_in(REPLY, REPLY)]}
        askers = [a.name for a in service.owned if owner in a.asks]
        if not askers:
            return None
        inbox = TopicKind.COMMAND.topic(askers[0])
        return {"channel": {"$ref": f"#/channels/{inbox}"}, "messages": [_in(inbox, inbox)]}

    # --- channels and messages ----------------------------------------------------------------------------------------

    def _add_channel(self, topic: str, kind: TopicKind, owner: str | None) -> None:
        private = not kind.published and (kind is not TopicKind.COMMAND or topic.rpartition(".")[0] in self._engines)
        if private and self._public:
            return
        schema = self._schema(topic, kind)
        called = self._topology.names.get(topic, topic)
        tags = [kind.value, "private" if private else "public", *([owner] if owner else [])]
        channel = self._channel(called, topic, schema, kind) | {"tags": [{"name": tag} for tag in tags]}
        about: dict[str, Any] = {"topic": called}
        if owner is not None:
            partitions = 1 if kind in SINGLE else self._partitions
            about |= {"partitions": partitions} if partitions else {}
            about["topicConfiguration"] = {name: _setting(name, text) for name, text in SETTINGS[kind].items()}
        channel["bindings"] = {"kafka": about | {"bindingVersion": BINDING}}
        self._channels[topic] = channel

    def _add_reply_channel(self) -> None:
        if REPLY not in self._channels:
            schema = self._schema(REPLY, TopicKind.REPLY)
            self._channels[REPLY] = self._channel(None, REPLY, schema, TopicKind.REPLY)

    def _channel(self, address: str | None, name: str, schema: Schema, kind: TopicKind) -> dict[str, Any]:
        """Return a channel without its bindings, and note its message."""
        doc = (schema.get("doc") if isinstance(schema, dict) else None) or KINDS[kind].meaning
        message: dict[str, Any] = {"name": name, "title": name, "summary": doc}
        if members := list(_members(schema)):
            message["description"] = "One of:\n" + "\n".join(f"- {member}" for member in members)
        if schema is not None:
            message["payload"] = {"schemaFormat": FORMAT, "schema": schema}
        message["bindings"] = {"kafka": _message_binding(kind, schema)}
        self._messages[name] = message
        messages = {name: {"$ref": f"#/components/messages/{name}"}}
        return {"address": address, "title": name, "description": doc, "messages": messages}

    def _schema(self, topic: str, kind: TopicKind) -> Schema:
        if kind in NO_SCHEMA:
            return None
        return self._registry.read(KINDS[kind].schema or topic)


def _in(channel: str, message: str) -> dict[str, str]:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}


def _message_binding(kind: TopicKind, schema: Schema) -> dict[str, Any]:
    keys = {"text": {"type": "string"}, "bytes": {"type": "string", "format": "binary"}}
    key = keys.get(KINDS[kind].key)
    wire = {"schemaIdLocation": "payload", "schemaIdPayloadEncoding": "confluent"} if schema is not None else {}
    return ({"key": key} if key else {}) | wire | {"bindingVersion": BINDING}


def _setting(name: str, text: str) -> Any:
    """Return the setting of a topic as the binding has it: numbers as numbers, policies as a list."""
    if name == POLICY:
        return [text]
    return int(text) if text.lstrip("-").isdecimal() else text


def _members(schema: Schema) -> Iterator[str]:
    """Return the records that a value, or the body of an envelope, may be, each with its doc; none of a single one."""
    body = schema
    if isinstance(schema, dict):
        body = next((field["type"] for field in schema.get("fields", ()) if field["name"] == "body"), None)
    for branch in body if isinstance(body, list) else ():
        if isinstance(branch, dict) and "name" in branch:
            yield f"{branch['name']}: {branch['doc']}" if branch.get("doc") else branch["name"]


def _said(what: str, function: Callable[..., Any]) -> str:
    """Return what is done, and what the docstring of the author's function says of it."""
    author = inspect.isroutine(function) or hasattr(function, "__wrapped__")
    doc = " ".join((inspect.getdoc(function) or "").split()) if author else ""
    return f"{what}: {doc}" if doc and not function.__module__.startswith("pipeline.") else what

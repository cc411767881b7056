"""Parked records over HTTP, at the worker that owns them: list, show, redrive and discard."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from pipeline.adapters.json.writing import scalar, to_json
from pipeline.engine.loop.lane import Lane
from pipeline.engine.parking.parking import Drained
from pipeline.engine.parking.parking_log import Audit
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.engine.state.parked_table import ParkedRecord, parts, row_key
from pipeline.engine.state.row_keys import READ_AT_ONCE, join_key
from pipeline.errors import BadRequest, NotParked, PipelineError, TableUnavailable, TopologyError, UndecodableRecord
from pipeline.model import CommandMessage, EventMessage, Replica, ReplyMessage, Service, TopicKind
from pipeline.model.changes.upcasts import Upcast
from pipeline.server import endpoint
from pipeline.server.endpoint import Page, Pages, Reply, Request, integer
from pipeline.server.endpoints.operators import ALL_PARKED, DISCARD, PARKED, REDRIVE
from pipeline.server.endpoints.parts import INT_MAX, LONG_MAX
from pipeline.server.operator_input import audit_of
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import FORWARDED
from pipeline.server.reads.local_tables import LocalTables
from pipeline.topology import Topology

T = TypeVar("T")
LIMIT, LIMIT_MAX = 100, 1_000


Act = Callable[[Mapping[str, Any], TP, bytes, int, Audit, bool], Callable[[Lane], Drained]]

ENVELOPES = (CommandMessage, EventMessage, ReplyMessage)  # shown without the name of their class


class Host(Protocol):
    """The part of a service's host that this page needs."""

    plan: ServicePlan

    async def ask(self, call: Callable[[Lane], T]) -> T: ...


class Place(NamedTuple):
    """A source partition of a service, or a partition of one of its replicas, of which each worker has a copy."""

    service: str
    topic: str  # its declared name; that of the replica
    partition: int

    @property
    def queue(self) -> str:
        """The table of its parked records."""
        return TopicKind.QUEUE.topic(f"{self.service}.{self.topic}")


class ParkedApi:
    """`GET /v1/parked`, `GET /v1/parked/{service}/{topic}/{partition}`, and `POST` to its `/redrive` and `/discard`."""

    def __init__(self, hosts: Mapping[str, Host], tables: LocalTables, dispatcher: Dispatcher) -> None:
        self._hosts, self._tables, self._dispatcher = hosts, tables, dispatcher
        self._topology = dispatcher.topology

    def pages(self) -> Pages:
        """Return the pages."""
        return {
            ALL_PARKED: Page(self.all),
            PARKED: Page(self.one, place=self._owned),
            REDRIVE: Page(partial(self.act, _redrive), partial(self._call, _redrive), self._owned),
            DISCARD: Page(partial(self.act, _discard), partial(self._call, _discard), self._owned),
        }

    # --- pages --------------------------------------------------------------------------------------------------------

    async def all(self, request: Request) -> Reply:
        """Return the keys that have parked records: how many, and the cause and time of the first.

        Without a `service`, partitions that cannot be reached are listed in `unavailable`.
        """
        limit, after, only = request["limit"], _token(request["after"]), request["service"]
        found: list[dict[str, Any]] = []
        unavailable: list[str] = []
        for place in await self._dispatcher.blocking(lambda: list(self._places(only))):
            if after is not None and place < after[0]:
                continue
            start = after[1] if after is not None and place == after[0] else None
            try:
                found += await self._listed(request, place, start, limit - len(found))
            except PipelineError as error:
                if only is not None:
                    raise TableUnavailable(str(error)) from error
                unavailable.append(f"{place.service} {place.topic}-{place.partition}")
            if len(found) >= limit:
                last = found[-1]
                key = Place(last["service"], last["topic"], last["partition"])
                token = f"{'/'.join(map(str, key))}/{last['key_base64']}"
                return Reply(200, {"parked": found, "next": token, "unavailable": unavailable})
        return Reply(200, {"parked": found, "next": None, "unavailable": unavailable})

    async def one(self, request: Request) -> Reply:
        """Return the parked records of one key, in order; without a key, the keys of the partition."""
        place, limit, after = _place(request), request["limit"], request["after"]
        if request["key"] is None and request["key_base64"] is None:
            start = None if after is None else _decoded(after)
            return Reply(200, {"parked": await self._dispatcher.blocking(lambda: self._keys(place, start, limit))})
        key, offset = _key(request.values), -1 if after is None else integer("after", after, -1, LONG_MAX)
        start = row_key(key, offset + 1)
        rows = await self._dispatcher.blocking(
            lambda: self._tables.pairs(place.queue, place.partition, join_key(key), start, limit)
        )
        if not rows and offset < 0:
            raise NotParked(f"no record is parked under the key {key!r} of {place.topic}-{place.partition}")
        decode = self._decode(place)
        return Reply(200, {**_named(place, key), "records": [_shown(entry, decode) for _, entry in rows]})

    async def act(self, act: Act, request: Request) -> Reply:
        """Redrive or discard; reply once it is committed."""
        if self._replica(_place(request)) is not None and FORWARDED not in request.headers:
            return await self._at_all(DISCARD if act is _discard else REDRIVE, request)
        host = self._hosts[request.parts["service"]]
        return Reply(200, (await host.ask(self._call(act, request)))._asdict())

    def _call(self, act: Act, request: Request) -> Callable[[Lane], Drained]:
        """Return the call on the lane. Raises BadRequest."""
        place, body = _place(request), request.body
        if not isinstance(body, dict):
            raise BadRequest("the body must be an object with `key`, `by` and `why`")
        key, audit = _key(body), audit_of(request.body)
        limit = integer("limit", str(body.get("limit", LIMIT)), 1, LIMIT_MAX)
        if self._replica(place) is not None:
            return act(body, TP(place.topic, place.partition), key, limit, audit, True)
        return act(body, TP(self._called(place.topic), place.partition), key, limit, audit, False)

    # --- places -------------------------------------------------------------------------------------------------------

    def _called(self, topic: str) -> str:
        return self._topology.names.get(topic, topic)

    async def _owned(self, request: Request) -> endpoint.Place:
        """Return the partition that the path names. Raises NotParked."""
        place = _place(request)
        service = self._topology.services.get(place.service)
        source = None if service is None else _sources(service).get(place.topic)
        if source is None:
            raise NotParked(
                f"no service {place.service!r} folds a topic {place.topic!r}, or has a replica of that name"
            )
        count = await self._dispatcher.blocking(lambda: self._dispatcher.router.count(self._called(source)))
        if place.partition >= count:
            raise NotParked(f"{place.topic} has {count} partitions")
        return self._table(place)

    def _table(self, place: Place) -> endpoint.Place:
        if self._replica(place) is not None:
            return endpoint.Place(place.topic, place.partition)
        return endpoint.Place(place.queue, place.partition, (place.service, self._called(place.topic)))

    def _replica(self, place: Place) -> Replica[Any, Any] | None:
        """Return the replica that a place is of; None if it is a source partition's."""
        service = self._topology.services.get(place.service)
        replicas = () if service is None else service.replicas
        return next((replica for replica in replicas if replica.name == place.topic), None)

    def _decode(self, place: Place) -> Callable[[bytes | None], Any]:
        """Return what decodes the records that are parked there."""
        plan = self._hosts[place.service].plan
        if self._replica(place) is None:
            return plan.source_topics[self._called(place.topic)].codec.decode
        return next(events.decode for replica, events, _ in plan.replicas if replica.name == place.topic)

    async def _at_all(self, to: endpoint.Endpoint, request: Request) -> Reply:
        """Do it to a key of a replica at all workers of the service. The reply is that of the one with most left."""
        service = request.parts["service"]
        replies = await self._dispatcher.of_workers(service, to, request.parts, request.body)
        done = [reply.body for reply in replies.values() if isinstance(reply, Reply)]
        errors = [error for error in replies.values() if isinstance(error, PipelineError)]
        if error := next((each for each in errors if not isinstance(each, NotParked)), None):
            if isinstance(error, BadRequest):
                raise error
            raise TableUnavailable(f"not all workers of {service!r} can answer: {error}; ask again")
        if not done:
            raise errors[0] if errors else TableUnavailable(f"no worker of {service!r} runs; ask again")
        return Reply(200, max(done, key=lambda each: (each["left"], each["done"])))

    def _places(self, only: str | None) -> Iterator[Place]:
        """Yield all source partitions, in order."""
        for service in chosen(self._topology, only):
            for topic, source in sorted(_sources(service).items()):
                for n in range(self._dispatcher.router.count(self._called(source))):
                    yield Place(service.name, topic, n)

    async def _listed(self, request: Request, place: Place, start: bytes | None, limit: int) -> list[dict[str, Any]]:
        query = {"limit": str(limit)} | ({} if start is None else {"after": base64.b64encode(start).decode()})
        return await self._dispatcher.share(
            request,
            self._table(place),
            lambda: self._dispatcher.blocking(lambda: self._keys(place, start, limit)),
            lambda reply: reply.body["parked"],
            PARKED,
            {"service": place.service, "topic": place.topic, "partition": str(place.partition)},
            query,
        )

    def _keys(self, place: Place, after: bytes | None, limit: int) -> list[dict[str, Any]]:
        """Return up to `limit` keys after `after`, each with its first record and their number."""
        found: list[dict[str, Any]] = []
        start = row_key(after, 2**64 - 1) if after is not None else b""
        while rows := self._tables.pairs(place.queue, place.partition, b"", start, READ_AT_ONCE):
            for row, entry in rows:
                key, _ = parts(row)
                named = _named(place, key)
                if not found or found[-1]["key_base64"] != named["key_base64"]:
                    if len(found) == limit:
                        return found
                    found.append({**named, "waiting": 0, **_first(entry)})
                found[-1]["waiting"] += 1
            start = rows[-1][0] + b"\0"
        return found


def _sources(service: Service) -> dict[str, str]:
    """The topic that splits the records of each place: a source topic itself, or what a replica follows."""
    replicas = {replica.name: replica.source.topic for replica in service.replicas}
    return {topic: topic for topic in service.source_topics()} | replicas


def chosen(topology: Topology, only: str | None) -> list[Service]:
    """The services of that name; all if none is named. Raises NotParked."""
    try:
        return topology.chosen((only,) if only else ())
    except TopologyError as error:
        raise NotParked(str(error)) from None


def _place(request: Request) -> Place:
    return Place(request.parts["service"], request.parts["topic"], request["partition"])


def _redrive(
    body: Mapping[str, Any], tp: TP, key: bytes, limit: int, audit: Audit, of_copy: bool
) -> Callable[[Lane], Drained]:
    if of_copy:
        return lambda lane: lane.redrive_copy(*tp, key, audit)
    return lambda lane: lane.redrive(tp, key, limit, audit)


def _discard(
    body: Mapping[str, Any], tp: TP, key: bytes, limit: int, audit: Audit, of_copy: bool
) -> Callable[[Lane], Drained]:
    offset = None
    if body.get("all") is not True:
        if "offset" not in body:
            raise BadRequest("say which record: `offset`, or `all`: true")
        offset = integer("offset", str(body["offset"]), 0, LONG_MAX)
    if of_copy:
        return lambda lane: lane.discard_copy(*tp, key, offset, limit, audit)
    return lambda lane: lane.discard(tp, key, offset, limit, audit)


def _named(place: Place, key: bytes) -> dict[str, Any]:
    """Return a key, as text if it is text."""
    text = None
    with suppress(UnicodeDecodeError):
        text = key.decode()
    return {**place._asdict(), "key": text, "key_base64": base64.b64encode(key).decode()}


def _first(entry: ParkedRecord) -> dict[str, Any]:
    told = {"offset": entry.offset, "reason": entry.reason, "cause": entry.cause}
    return {**told, "since_ms": entry.queued_ms, "without_value": entry.bare}


def decoded(decode: Callable[[bytes | None], Any], value: bytes | None) -> Any:
    """Return a record's value as JSON; an old event that was not upcast to one of today is shown as it stands."""
    message = decode(value)
    if isinstance(message, EventMessage) and isinstance(message.body, Upcast):
        message = message._replace(body=message.body.old)
    return to_json(message._asdict() if isinstance(message, ENVELOPES) else message, tagged=True)


def _shown(entry: ParkedRecord, decode: Callable[[bytes | None], Any]) -> dict[str, Any]:
    """Return a parked record, decoded if possible."""
    record = None
    with suppress(UndecodableRecord):
        record = decoded(decode, entry.value)
    return {
        **_first(entry),
        "time_ms": entry.time_ms,
        "traceback": entry.traceback,
        "done": list(entry.done),
        "headers": [[name, scalar(value)] for name, value in entry.headers],
        "value_base64": scalar(entry.value),
        "record": record,
    }


def _key(values: Mapping[str, Any]) -> bytes:
    """Return the key in `key`, or in `key_base64` if it is not text. Raises BadRequest."""
    text, coded = values.get("key"), values.get("key_base64")
    if isinstance(text, str) and coded is None:
        try:
            return text.encode()
        except UnicodeEncodeError as error:
            raise BadRequest(f"the key is not text that UTF-8 can hold: {error}") from None
    if isinstance(coded, str) and text is None:
        return _decoded(coded)
    raise BadRequest("give `key`, or `key_base64` if it is not text")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{text!r:.100} is not base64") from None


def _token(text: str) -> tuple[Place, bytes] | None:
    """Parse the end of a page: `<service>/<topic>/<partition>/<key in base64>`."""
    if not text:
        return None
    service, topic, partition, key = f"{text}///".split("/", 3)
    return Place(service, topic, integer("after", partition, 0, INT_MAX)), _decoded(key.removesuffix("///"))

"""Parked records over HTTP: which wait, why, and what is to be done about them, at the worker that owns them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

import faust
from aiohttp import web

from pipeline.client.wire.from_json import parsed, to_json
from pipeline.engine.loop.lane import Lane
from pipeline.engine.parking.parking import Drained
from pipeline.engine.parking.parking_log import Audit
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.engine.state.parked_table import LOOK_AHEAD, ParkedRecord, key_prefix, parts, row_key
from pipeline.errors import BadRequest, NotParked, TableUnavailable, TopologyError, UndecodableRecord
from pipeline.model import TopicKind
from pipeline.server.operator_input import audit_text, int_param
from pipeline.server.owner.forward import Fetched, Forwarding
from pipeline.server.problems import RETRY, add_pages, answer
from pipeline.server.reads.local_tables import LocalTables

T = TypeVar("T")
LIMIT, LIMIT_MAX = 100, 1_000
ACTIONS = ("redrive", "discard")


class Host(Protocol):
    """What runs a service here."""

    plan: ServicePlan

    async def ask(self, call: Callable[[Lane], T]) -> T: ...


class Place(NamedTuple):
    """A source partition of a service."""

    service: str
    topic: str  # as declared
    partition: int

    @property
    def queue(self) -> str:
        """The table of its parked records."""
        return TopicKind.QUEUE.topic(f"{self.service}.{self.topic}")

    @property
    def path(self) -> str:
        """Its page."""
        return f"/v1/parked/{self.service}/{quote(self.topic)}/{self.partition}"


class ParkedApi:
    """`GET /v1/parked`, `GET /v1/parked/{service}/{topic}/{partition}`, and `POST` to its `/redrive` and `/discard`."""

    def __init__(self, hosts: Mapping[str, Host], tables: LocalTables, forwarding: Forwarding) -> None:
        self._hosts, self._tables, self._forwarding = hosts, tables, forwarding
        self._router = forwarding.router

    def mount(self, app: faust.App) -> None:
        """Adds the pages to a Faust app's web server."""
        page = "/v1/parked/{service}/{topic}/{partition}"
        add_pages(
            app,
            get={"/v1/parked": self.all, page: self.one},
            post={f"{page}/{action}": partial(self.act, action) for action in ACTIONS},
        )

    # --- pages --------------------------------------------------------------------------------------------------------

    async def all(self, request: web.Request) -> web.Response:
        """The keys that have parked records: how many wait, the cause of the first, since when.

        `unavailable` names the partitions that nobody can be asked about just now, where no `service` is named.
        """
        query = request.query
        limit, after = int_param(query.get("limit", str(LIMIT)), 1, LIMIT_MAX), _token(query.get("after", ""))
        found: list[dict[str, Any]] = []
        unavailable: list[str] = []
        for place in await self._forwarding.blocking(lambda: list(self._places(query.get("service")))):
            if after is not None and place < after[0]:
                continue
            start = after[1] if after is not None and place == after[0] else None
            try:
                found += await self._listed(request, place, start, limit - len(found))
            except TableUnavailable:
                if "service" in query:
                    raise
                unavailable.append(f"{place.service} {place.topic}-{place.partition}")
            if len(found) >= limit:
                last = found[-1]
                key = Place(last["service"], last["topic"], last["partition"])
                token = f"{'/'.join(map(str, key))}/{last['key_base64']}"
                return answer(200, {"parked": found, "next": token, "unavailable": unavailable})
        return answer(200, {"parked": found, "next": None, "unavailable": unavailable})

    async def one(self, request: web.Request) -> web.Response:
        """The parked records of one key, in order; without a key, the keys of the partition."""
        place, query = await self._place(request), request.query
        limit = int_param(query.get("limit", str(LIMIT)), 1, LIMIT_MAX)
        if not self._tables.holds(place.queue, place.partition):
            return await self._pass_on(request, place, place.path, dict(query))
        if "key" not in query and "key_base64" not in query:
            start = _decoded(query["after"]) if "after" in query else None
            listed = await self._forwarding.blocking(lambda: self._keys(place, start, limit))
            return answer(200, {"parked": listed})
        key, after = _key(query), int_param(query.get("after", "-1"), -1, 2**63 - 1)
        start = row_key(key, after + 1)
        rows = await self._forwarding.blocking(
            lambda: self._tables.pairs(place.queue, place.partition, key_prefix(key), start, limit)
        )
        if not rows and after < 0:
            raise NotParked(f"nothing waits under the key {key!r} of {place.topic}-{place.partition}")
        decode = self._hosts[place.service].plan.source_topics[self._called(place.topic)].codec.decode
        return answer(200, {**_named(place, key), "records": [_shown(entry, decode) for _, entry in rows]})

    async def act(self, action: str, request: web.Request) -> web.Response:
        """Has the owner redrive or discard; answers once it is committed."""
        place = await self._place(request)
        body = parsed(await request.read())
        if not isinstance(body, dict):
            raise BadRequest("the body must be an object with `key`, `by` and `why`")
        key, audit = _key(body), Audit(audit_text(body, "by"), audit_text(body, "why"))
        limit = int_param(str(body.get("limit", LIMIT)), 1, LIMIT_MAX)
        call: Callable[[Lane], Drained]
        tp = TP(self._called(place.topic), place.partition)
        if action == "redrive":
            call = lambda lane: lane.redrive(tp, key, limit, audit)  # noqa: E731
        elif body.get("all") is True:
            call = lambda lane: lane.discard(tp, key, None, limit, audit)  # noqa: E731
        else:
            offset = int_param(str(body.get("offset", "")), 0, 2**63 - 1, "say which record: `offset`, or `all`: true")
            call = lambda lane: lane.discard(tp, key, offset, 1, audit)  # noqa: E731
        if not self._tables.holds(place.queue, place.partition):
            return await self._pass_on(request, place, f"{place.path}/{action}", {}, body)
        return answer(200, (await self._hosts[place.service].ask(call))._asdict())

    # --- here or elsewhere --------------------------------------------------------------------------------------------

    def _called(self, topic: str) -> str:
        return self._router.topology.names.get(topic, topic)

    async def _place(self, request: web.Request) -> Place:
        info = request.match_info
        service = self._router.topology.services.get(info["service"])
        if service is None or info["topic"] not in service.source_topics():
            raise NotParked(f"no service {info['service']!r} folds a topic {info['topic']!r}")
        place = Place(service.name, info["topic"], int_param(info["partition"], 0, 2**31 - 1))
        count = await self._forwarding.blocking(lambda: self._router.count(self._called(place.topic)))
        if place.partition >= count:
            raise NotParked(f"{place.topic} has {count} partitions")
        return place

    def _places(self, only: str | None) -> Iterator[Place]:
        """All source partitions, in order."""
        try:
            services = self._router.topology.chosen((only,) if only else ())
        except TopologyError as error:
            raise NotParked(str(error)) from None
        for service in services:
            for topic in sorted(service.source_topics()):
                for n in range(self._router.count(self._called(topic))):
                    yield Place(service.name, topic, n)

    async def _listed(
        self, request: web.Request, place: Place, start: bytes | None, limit: int
    ) -> list[dict[str, Any]]:
        if self._tables.holds(place.queue, place.partition):
            return await self._forwarding.blocking(lambda: self._keys(place, start, limit))
        query = {"limit": str(limit)} | ({} if start is None else {"after": base64.b64encode(start).decode()})
        status, body, *_ = await self._ask(request, place, place.path, query)
        if status != 200:
            detail = body.get("detail", f"the owner of {place.topic}-{place.partition} answered {status}")
            raise TableUnavailable(detail)
        listed: list[dict[str, Any]] = body["parked"]
        return listed

    async def _ask(
        self, request: web.Request, place: Place, path: str, query: dict[str, str], body: Any = None
    ) -> Fetched:
        owner = partial(self._router.owner, place.service, self._called(place.topic), place.partition)
        what = f"partition {place.partition} of {place.topic}"
        return await self._forwarding.ask(request, what, owner, path, query, body=body)

    async def _pass_on(
        self, request: web.Request, place: Place, path: str, query: dict[str, str], body: Any = None
    ) -> web.Response:
        status, told, kind, _ = await self._ask(request, place, path, query, body)
        return answer(status, told, RETRY if status == 503 else None, kind)

    def _keys(self, place: Place, after: bytes | None, limit: int) -> list[dict[str, Any]]:
        """Up to `limit` keys behind `after`, each with its first record and how many there are."""
        found: list[dict[str, Any]] = []
        start = row_key(after, 2**64 - 1) if after is not None else b""
        while rows := self._tables.pairs(place.queue, place.partition, b"", start, LOOK_AHEAD):
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


def _named(place: Place, key: bytes) -> dict[str, Any]:
    """A key, as text where it is text."""
    text = None
    with suppress(UnicodeDecodeError):
        text = key.decode()
    return {**place._asdict(), "key": text, "key_base64": base64.b64encode(key).decode()}


def _first(entry: ParkedRecord) -> dict[str, Any]:
    told = {"offset": entry.offset, "reason": entry.reason, "cause": entry.cause}
    return {**told, "since_ms": entry.queued_ms, "without_value": entry.bare}


def _shown(entry: ParkedRecord, decode: Callable[[bytes | None], Any]) -> dict[str, Any]:
    """A parked record, read where it can be."""
    record = None
    with suppress(UndecodableRecord):
        message = decode(entry.value)
        record = to_json(message._asdict() if hasattr(message, "_asdict") else message)
    return {
        **_first(entry),
        "time_ms": entry.time_ms,
        "traceback": entry.traceback,
        "done": list(entry.done),
        "headers": [[name, to_json(value)] for name, value in entry.headers],
        "value_base64": to_json(entry.value),
        "record": record,
    }


def _key(values: Mapping[str, Any]) -> bytes:
    """The key that is meant: `key`, or `key_base64` where it is no text."""
    text, coded = values.get("key"), values.get("key_base64")
    if isinstance(text, str) and coded is None:
        try:
            return text.encode()
        except UnicodeEncodeError as error:
            raise BadRequest(f"the key is no text that UTF-8 can hold: {error}") from None
    if isinstance(coded, str) and text is None:
        return _decoded(coded)
    raise BadRequest("give `key`, or `key_base64` where it is no text")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{text!r:.100} is not base64") from None


def _token(text: str) -> tuple[Place, bytes] | None:
    """Where a page ended: `<service>/<topic>/<partition>/<key in base64>`."""
    if not text:
        return None
    service, topic, partition, key = f"{text}///".split("/", 3)
    return Place(service, topic, int_param(partition, 0, 2**31 - 1)), _decoded(key.removesuffix("///"))

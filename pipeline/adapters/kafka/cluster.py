"""Questions to the cluster: is it there, where do logs end, which topic is this. One admin client a process."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType  # type: ignore[attr-defined]  # there, if not in __all__

from pipeline.adapters.kafka.away import CONNECTIONS, ask_by
from pipeline.adapters.kafka.away import on_error as on_error
from pipeline.adapters.kafka.client_watch import PROBES_S, reaches
from pipeline.adapters.kafka.connection import connection
from pipeline.engine.ports import TP, LogFacts, Pause, Position, TopicNow
from pipeline.errors import BrokerUnreachable
from pipeline.model.records.step_notes import read_step_notes, step_words

log = logging.getLogger(__name__)
T = TypeVar("T")

SESSION_S = 6.0  # a worker that is not heard of for so long loses its partitions
TRANSACTION_S = 60.0  # after which the broker ends a transaction that a killed worker has left open
QUIET_S = TRANSACTION_S + 15.0  # the longest wait for records or offsets behind such a one; the broker looks each 10 s
ANSWER_S = 10.0  # how long a request to the broker may take before the caller gets an error
GROUP_S = 60.0  # the same of a group's coordinator, which a broker makes when it is first asked for
TRY_S = 3.0
QUESTION_S = 3600.0  # the client's maximum
RETRY_PAUSE_S = 0.1
RECONNECT_MS_MAX = 1000  # librdkafka's own 10,000 would add to the time that a broker is away
BY, OF, IN, HOLD = "by:", "of:", "in:", "hold:"  # no name of a topic has a colon
PAUSE_MAX = 100  # characters of each text that is noted of a pause: notes have little room
COMMON: dict[str, Any] = {
    "socket.keepalive.enable": True,
    "allow.auto.create.topics": False,
    "reconnect.backoff.max.ms": RECONNECT_MS_MAX,
}


class plainly:  # used as a function
    """Wrap a call that runs callbacks, and raise the KafkaException behind a fatal error of the client.

    confluent-kafka sets a fatal error from within one callback, goes on to call others, and Python then says of these
    that they have "returned a result with an exception set". Or it raises the error itself, which is no exception: no
    `except` with a class catches it, not that of a thread pool either, whose thread then ends without a word.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: object, __: object) -> None:
        if isinstance(error, KafkaError):
            raise KafkaException(error) from None
        if isinstance(error, SystemError):
            if isinstance(error.__cause__, KafkaException):
                raise error.__cause__ from None
            raise KafkaException(KafkaError(KafkaError._FATAL, str(error), fatal=True)) from error


def note(owner: str, position: Position) -> str:
    """Return the metadata of an offset: producer, `unended` owners, standing, count of partitions, changelogs, steps.

    Of a changelog the end and the identity: `by:users-a-0 by:users-b-0 of:5ad3 in:4 users.state=77@1f ~c0ffee00:0:12+`.
    """
    named = position.unended if position.leaves else (owner, *position.unended)
    owners = (BY + quote(name) for name in named)  # of a node with any name
    changelogs = (f"{topic}={offset}@{identity:x}" for topic, (offset, identity) in position.changelogs.items())
    about = f"{OF}{position.standing:x}", f"{IN}{position.partitions}"
    pause = () if position.pause is None else (_pause_word(position.pause),)
    return " ".join([*owners, *about, *pause, *changelogs, *step_words(position.steps)])


def _pause_word(pause: Pause) -> str:
    return f"{HOLD}{pause.since_ms}:{quote(pause.by[:PAUSE_MAX], safe='')}:{quote(pause.why[:PAUSE_MAX], safe='')}"


def read_pause(text: str | None) -> Pause | None:
    """Return the pause that such metadata notes, if any."""
    found = re.search(rf"(?:^| ){HOLD}(\d+):([^ :]*):([^ :]*)", text or "")
    return None if found is None else Pause(unquote(found[2]), unquote(found[3]), int(found[1]))


def read_owners(text: str | None) -> tuple[str, ...]:
    """Return the producers named in such metadata, the one that committed it first."""
    return tuple(unquote(word.removeprefix(BY)) for word in (text or "").split(" ") if word.startswith(BY))


def read_position(offset: int, text: str | None) -> Position:
    """Return a committed position, with what such metadata says of it."""
    found = re.search(rf"(?:^| ){OF}([0-9a-f]+)", text or "")
    standing = int(found[1], 16) if found else 0
    count = re.search(rf"(?:^| ){IN}([0-9]{{1,9}})(?: |$)", text or "")
    partitions = int(count[1]) if count else 0
    steps, pause = read_step_notes(text), read_pause(text)
    owners = read_owners(text)[1:]
    return Position(offset, read_note(text), owners, standing, partitions, steps, pause=pause)


def read_note(text: str | None) -> dict[str, tuple[int, int]]:
    """The changelogs named in such metadata; unreadable parts are skipped, as other tools commit offsets, too."""
    found = re.findall(r"(\S+)=(\d+)@([0-9a-f]+)", text or "")
    return {topic: (int(offset), int(identity, 16)) for topic, offset, identity in found}


class ClusterAdmin:
    """An AdminClient, with another one behind it once it has lost its brokers: see client_watch.

    None is ever let go: librdkafka's waits for ever when it is, if a question to a group's coordinator was left without
    an answer. The command line ends its process without waiting for it (pipeline.cli.run).
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config, self._client = config, AdminClient(config)
        self._lock, self._before, self._renewal_s = threading.Lock(), list[AdminClient](), 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def list_topics(self, *args: Any, **options: Any) -> Any:
        """Be AdminClient's. Each waits for a cluster by this, so it is what finds out that the client is of no use."""
        client = self._client
        try:
            return client.list_topics(*args, **options)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._TRANSPORT or not self._renewed(client):
                raise
            return self._client.list_topics(*args, **options)

    def _renewed(self, client: AdminClient) -> bool:
        with self._lock:
            if self._client is client and time.monotonic() > self._renewal_s:
                another = AdminClient(self._config)
                if reaches(another):
                    self._before.append(client)
                    self._client = another
                self._renewal_s = time.monotonic() + PROBES_S
            return self._client is not client


@cache
def admin_client(bootstrap: str) -> AdminClient:
    """The one admin client of this process for a cluster; safe to use from several threads."""
    config: dict[str, Any] = {**connection(bootstrap), "error_cb": lambda _: None, "log_level": 0}
    config |= {"socket.timeout.ms": int(ANSWER_S * 1000), "reconnect.backoff.max.ms": RECONNECT_MS_MAX}
    # It also says for how long a group's coordinator is remembered that was not asked. One that has handed the group on
    # says so in an answer by which librdkafka does not forget it, and asked again and again it would be asked for ever.
    client = cast(AdminClient, ClusterAdmin(config | {"metadata.max.age.ms": 500}))
    ask_by(bootstrap, client)
    return client


def admin(bootstrap: str) -> AdminClient:
    """The admin client of a broker that answers; raises BrokerUnreachable."""
    client = admin_client(bootstrap)
    unanswered = (
        f"no Kafka broker answers at {bootstrap} (%s); "
        "start one with: pipeline broker up, or give another address with --bootstrap"
    )
    asked_again(unanswered, lambda: client.list_topics(timeout=TRY_S), ANSWER_S)  # of any broker: one may stand still
    return client


def asked_again(unanswered: str, ask: Callable[[], T], patience_s: float = ANSWER_S) -> T:
    """Retry a request that may meet a moving leader or a topic just created.

    Raises BrokerUnreachable with the text `unanswered`, the reason in place of its %s, if no attempt succeeds.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return ask()
        except KafkaException as raised:
            if raised.args[0].code() in CONNECTIONS:
                on_error(raised.args[0])
            if time.monotonic() > deadline:
                raise BrokerUnreachable(unanswered % raised.args[0].str()) from None
            time.sleep(RETRY_PAUSE_S)


def end_offsets(client: AdminClient, partitions: Sequence[TP]) -> dict[TP, int]:
    """The offset behind the last record of each partition, records of open transactions included."""
    return _offsets(client, partitions, OffsetSpec.latest(), "end")  # type: ignore[no-untyped-call]


def first_offsets(client: AdminClient, partitions: Sequence[TP]) -> dict[TP, int]:
    """The offset of the first record that each partition still holds."""
    return _offsets(client, partitions, OffsetSpec.earliest(), "begin")  # type: ignore[no-untyped-call]


def _offsets(client: AdminClient, partitions: Sequence[TP], spec: OffsetSpec, verb: str) -> dict[TP, int]:
    asked = {TopicPartition(*tp): spec for tp in partitions}
    if not asked:
        return {}

    def ask() -> dict[TP, int]:
        futures = client.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=ANSWER_S)
        return {TP(p.topic, p.partition): future.result().offset for p, future in futures.items()}

    return asked_again(f"the broker does not say where topics {verb}: %s", ask)


def identity_of(about: Any) -> int:
    """Return the identity of a described topic: 64 bits of its random 128 tell any two topics of one name apart."""
    identity: int = about.topic_id.get_least_significant_bits() & (2**64 - 1)
    return identity


def log_facts(client: AdminClient, topics: Sequence[str]) -> dict[str, LogFacts]:
    """Identity, partitions and tombstone retention of each topic."""
    if not topics:
        return {}

    def ask() -> dict[str, LogFacts]:
        described = client.describe_topics(TopicCollection(list(topics)), request_timeout=ANSWER_S)
        resources = {topic: ConfigResource(ResourceType.TOPIC, topic) for topic in topics}
        configured = client.describe_configs(list(resources.values()), request_timeout=ANSWER_S)
        facts = {}
        for topic in topics:
            about, config = described[topic].result(), configured[resources[topic]].result()
            facts[topic] = LogFacts(identity_of(about), len(about.partitions), int(config["delete.retention.ms"].value))
        return facts

    return asked_again("the broker does not say what it knows of topics: %s", ask)


class Identities:
    """The identities and partitions of topics, as of the last answer. One question is under way at most."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client
        self._asked: Mapping[str, Future[Any]] = {}
        self._told: dict[str, TopicNow] = {}

    def told(self, topics: Sequence[str]) -> dict[str, TopicNow]:
        """Return what has been told; then ask for these topics. A topic of which nothing is heard is left out."""
        if all(future.done() for future in self._asked.values()):
            self._told = {}
            for topic, future in self._asked.items():
                with contextlib.suppress(KafkaException):  # it is not there, or the broker is away
                    about = future.result()
                    self._told[topic] = TopicNow(identity_of(about), len(about.partitions))
            self._asked = {}
            with contextlib.suppress(KafkaException):
                self._asked = self._client.describe_topics(TopicCollection(list(topics)), request_timeout=ANSWER_S)
        return self._told


def static_members(client: AdminClient, group: str, patience_s: float = GROUP_S) -> set[str]:
    """The static names of a group's members; empty if there is no such group."""
    members = _members(client, group, patience_s)
    return {member.group_instance_id for member in members if member.group_instance_id}


def member_names(client: AdminClient, group: str) -> set[str]:
    """The names of a group's members, static or not; empty if there is no such group."""
    return {member.group_instance_id or member.member_id for member in _members(client, group)}


def _members(client: AdminClient, group: str, patience_s: float = GROUP_S) -> list[Any]:
    def ask() -> list[Any]:
        described = describe_group(client, group, min(patience_s, TRY_S))
        return [] if described is None else list(described.members)

    return asked_again("the broker does not say who is in the group: %s", ask, patience_s)


def describe_group(client: AdminClient, group: str, patience_s: float) -> Any | None:
    """Describe a group; None if there is no such group. Raises KafkaException, also if there is no answer in time.

    The question itself lives on, for as long as the client lets it: one whose time is over is freed but stays queued
    for the coordinator, and ends the process once that is back (librdkafka #4605).
    """
    future = client.describe_consumer_groups([group], request_timeout=QUESTION_S)[group]
    try:
        return future.result(patience_s)
    except TimeoutError:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return None
        raise

"""The schemas on the broker: a compacted topic, on which all who write put their schemas before they write.

Key: `<topic>/<id>`. Value: JSON with `id`, `topic` and `schema`. So a reader needs no file of the writer's.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from pipeline.adapters.avro.codec import CodecFactory
from pipeline.adapters.avro.registry import Registry, Written
from pipeline.adapters.avro.wire.identity import same
from pipeline.adapters.kafka.away import kafka_log
from pipeline.adapters.kafka.client_watch import Reach
from pipeline.adapters.kafka.cluster import ANSWER_S, COMMON, TRY_S, admin, asked_again, on_error
from pipeline.adapters.kafka.connection import connection
from pipeline.adapters.kafka.reading import READING
from pipeline.engine.state.table import Codecs
from pipeline.errors import BrokerUnreachable, SchemaError, TopicError
from pipeline.model.records.topics import SCHEMAS_TOPIC

log = logging.getLogger(__name__)

STORED_S = 30.0
READ_S = 30.0  # the topic has one record for each version of a schema
POLL_S = 0.2
AGAIN_S = 1.0  # after an error of the reading thread
REFUSED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
GRANT = "pipeline topics acls TOPOLOGY --apply"
CURE = "create it with: pipeline topics create TOPOLOGY, or have one who may do so"


def published(bootstrap: str, make: Codecs) -> SchemasTopic | None:
    """Publish what is written, so that others can read it, and learn what others publish from now on.

    None if the codecs are others than those of a schema directory. Raises TopicError, SchemaError, BrokerUnreachable.
    """
    if not isinstance(make, CodecFactory):
        return None
    schemas = SchemasTopic(bootstrap, make.registry)
    if new := schemas.publish(make.written()):
        topics = ", ".join(dict.fromkeys(each.topic for each in new))
        log.info("published %d schemas, of %s", len(new), topics, extra={"event": "schemas_published"})
    schemas.follow()
    return schemas


class SchemasTopic:
    """Reads and writes the topic for one registry, which learns what is read.

    `catch_up` and `publish` are for one thread; `follow` reads on in a thread of its own. Raises BrokerUnreachable.
    """

    def __init__(self, bootstrap: str, registry: Registry) -> None:
        self._bootstrap, self._registry = bootstrap, registry
        self._next = OFFSET_BEGINNING
        self._there: dict[tuple[str, int], Any] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def catch_up(self, patience_s: float = READ_S) -> None:
        """Read to the end. Without the topic nothing is known from there, which is no error."""
        if not self._exists():
            return
        deadline = time.monotonic() + patience_s
        with closing(self._consumer(Reach(self._bootstrap))) as consumer:
            while not self._poll(consumer):
                if time.monotonic() > deadline:
                    raise BrokerUnreachable(
                        f"{SCHEMAS_TOPIC} could not be read to its end within {patience_s:.0f} s; look whether the "
                        "broker is well and this user may read it, and try again"
                    )

    def versions(self) -> list[Written]:
        """Return what has been read, in the order in which it was first published."""
        return [Written(number, topic, schema) for (topic, number), schema in self._there.items()]

    def publish(self, written: Iterable[Written]) -> list[Written]:
        """Write what is not there yet; return that once the broker has stored it. Raises TopicError, SchemaError."""
        if not self._exists():
            raise TopicError(f"the broker has no topic {SCHEMAS_TOPIC}, by which others read what is written; {CURE}")
        self.catch_up()
        missing = []
        for each in written:
            there = self._there.get((each.topic, each.id))
            if there is None:
                missing.append(each)
            elif not same(there, each.schema):
                raise SchemaError(
                    f"schema id {each.id} of {each.topic} is another schema on {SCHEMAS_TOPIC}, where another manifest "
                    "has counted the same number: take its entry out of this manifest and register anew"
                )
        if missing:
            self._write(missing)
        return missing

    def follow(self) -> None:
        """Read on from here in a thread, until `close`."""
        self._thread = threading.Thread(target=self._follow, name="schemas", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    # --- the broker ---------------------------------------------------------------------------------------------------

    def _exists(self) -> bool:
        """Return whether the topic is there. Raises TopicError if this user may not know."""
        unanswered = f"the broker does not say whether it has {SCHEMAS_TOPIC} (%s); look whether it is well"
        client = admin(self._bootstrap)
        found = asked_again(unanswered, lambda: client.list_topics(SCHEMAS_TOPIC, timeout=TRY_S), ANSWER_S)
        error = found.topics[SCHEMAS_TOPIC].error
        if error is not None and error.code() in REFUSED:
            raise TopicError(f"this user may not read {SCHEMAS_TOPIC}; give it the right with: {GRANT}")
        return error is None

    def _consumer(self, reach: Reach) -> Consumer:
        config = {"group.id": SCHEMAS_TOPIC, "auto.offset.reset": "earliest", "error_cb": reach.on_error}
        consumer = Consumer(READING | connection(self._bootstrap) | config, logger=kafka_log)
        consumer.assign([TopicPartition(SCHEMAS_TOPIC, 0, self._next)])
        return consumer

    def _poll(self, consumer: Consumer) -> bool:
        """Read one record, or wait for it a moment. Return whether the end was reached."""
        message = consumer.poll(POLL_S)
        if message is None:
            return False
        if (error := message.error()) is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                log.warning("reading %s: %s", SCHEMAS_TOPIC, error.str())
            return error.code() == KafkaError._PARTITION_EOF
        self._take(message)
        return False

    def _take(self, message: Message) -> None:
        offset = message.offset()
        assert offset is not None
        self._next = offset + 1
        try:
            said = json.loads(message.value() or b"")
            topic, number, schema = str(said["topic"]), int(said["id"]), said["schema"]
            self._registry.learn(number, topic, schema)
        except (ValueError, KeyError, TypeError, RecursionError, SchemaError) as error:
            log.warning("%s: offset %d says no schema: %s", SCHEMAS_TOPIC, offset, error)
        else:
            self._there[topic, number] = schema

    def _write(self, missing: list[Written]) -> None:
        failed: list[KafkaError] = []

        def stored(error: KafkaError | None, _: object) -> None:
            if error is not None:
                failed.append(error)

        # Stored twice does no harm, and an idempotent producer would wait for the broker's coordinator first.
        producer = Producer(COMMON | {**connection(self._bootstrap), "acks": "all", "error_cb": on_error})
        try:
            for each in missing:
                value = json.dumps({"id": each.id, "topic": each.topic, "schema": each.schema})
                producer.produce(SCHEMAS_TOPIC, value, f"{each.topic}/{each.id}", 0, on_delivery=stored)
            left = producer.flush(STORED_S)
        except KafkaException as raised:
            failed, left = [raised.args[0]], len(missing)
        if any(error.code() in REFUSED for error in failed):
            topics = ", ".join(sorted({each.topic for each in missing}))
            raise TopicError(
                f"this user may not write to {SCHEMAS_TOPIC}, and schemas of {topics} are not there yet: give it the "
                f"right with: {GRANT}; or have one who may do: pipeline schemas publish "
                "TOPOLOGY"
            )
        if left or failed:
            why = failed[0].str() if failed else f"no answer within {STORED_S:.0f} s"
            raise BrokerUnreachable(f"the broker has not taken the schemas for {SCHEMAS_TOPIC}: {why}; try again")

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                reach = Reach(self._bootstrap)
                with closing(self._consumer(reach)) as consumer:
                    while not self._stopped.is_set() and not reach.is_lost(consumer):
                        self._poll(consumer)
            except KafkaException as error:
                log.warning("reading %s: %s; reading again", SCHEMAS_TOPIC, error.args[0].str())
                self._stopped.wait(AGAIN_S)

"""Kafka by confluent-kafka: what a lane reads and writes by, and questions to the cluster."""

from pipeline.adapters.kafka.asking import KafkaBroker
from pipeline.adapters.kafka.cluster import (
    ANSWER_S,
    COMMON,
    QUIET_S,
    SESSION_S,
    admin,
    admin_client,
    asked_again,
    end_offsets,
    first_offsets,
    on_error,
)
from pipeline.adapters.kafka.connection import connection
from pipeline.adapters.kafka.producing import KafkaProducer
from pipeline.adapters.kafka.reading import READING, KafkaGroupConsumer, KafkaLogReader

__all__ = [
    "ANSWER_S",
    "COMMON",
    "QUIET_S",
    "READING",
    "SESSION_S",
    "KafkaBroker",
    "KafkaGroupConsumer",
    "KafkaLogReader",
    "KafkaProducer",
    "admin",
    "admin_client",
    "asked_again",
    "connection",
    "end_offsets",
    "first_offsets",
    "on_error",
]

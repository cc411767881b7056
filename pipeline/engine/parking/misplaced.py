"""Keys that stand in another partition than murmur2 says: what is wrong, and what can be done about it."""

from __future__ import annotations

import shlex

from pipeline.engine.plan import SourceTopic
from pipeline.engine.ports import TP
from pipeline.errors import Misplaced
from pipeline.model.records.partitioning import partition_of


def describe_misplaced(tp: TP, key: bytes, partitions: int) -> str:
    """Return which key stands where, where it belongs, and what the cause is likely to be."""
    topic, number = tp
    return (
        f"the key {key.decode(errors='replace')!r} stands in {topic}-{number}, and belongs in partition "
        f"{partition_of(key, partitions)} of {partitions}. Its producer spreads keys in another way, as librdkafka "
        "does unless it is told: give it partitioner=murmur2_random"
    )


def misplaced(tp: TP, key: bytes, partitions: int, source_topic: SourceTopic) -> Misplaced:
    """Return the error that a misplaced record is parked with."""
    chosen = f"--topic {tp.topic} --key {shlex.quote(key.decode(errors='replace'))} --why …"
    if source_topic.own:
        cure = f"the record is sent where it belongs by: pipeline parked redrive {chosen}"
    elif source_topic.has_rows:
        cure = f"have its owner send it again, and then: pipeline parked discard {chosen}"
    else:
        cure = f"the record is folded all the same by: pipeline parked redrive {chosen}"
    return Misplaced(f"{describe_misplaced(tp, key, partitions)}; {cure}")

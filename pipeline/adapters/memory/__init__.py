"""Kafka and local tables in memory, under a clock that somebody moves; faithful in what the ports use, and only that.

Markers take offsets, an open transaction holds the stable end back, epochs and generations fence, sessions and
transactions time out, offsets within an undecided transaction are not to be had. No thread, no real time.
"""

from pipeline.adapters.memory.clock import MemoryClock
from pipeline.adapters.memory.groups import SESSION_S
from pipeline.adapters.memory.kafka import MemoryKafka
from pipeline.adapters.memory.log import MemoryRecord, PartitionLog
from pipeline.adapters.memory.producing import MemoryProducer
from pipeline.adapters.memory.reading import MemoryGroupConsumer, MemoryLogReader
from pipeline.adapters.memory.tables import MemoryDatabase, MemorySharedStore, MemoryStore, MemoryStores

__all__ = [
    "SESSION_S",
    "MemoryClock",
    "MemoryDatabase",
    "MemoryGroupConsumer",
    "MemoryKafka",
    "MemoryLogReader",
    "MemoryProducer",
    "MemoryRecord",
    "MemorySharedStore",
    "MemoryStore",
    "MemoryStores",
    "PartitionLog",
]

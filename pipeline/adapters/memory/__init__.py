"""Kafka and local tables in memory, with a virtual clock. Faithful in what the ports use, and only in that.

Transaction markers take offsets, an open transaction holds back the stable end, epochs and generations fence, sessions
and transactions time out, and offsets in an undecided transaction cannot be read. No thread, no real time.
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

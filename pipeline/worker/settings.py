"""The settings of a worker process, and its adapters."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.adapters.avro.codec import served_codecs
from pipeline.adapters.kafka import SESSION_S, KafkaGroupConsumer, KafkaLogReader, KafkaProducer
from pipeline.engine.ports import GroupConsumer, LogReader, Producer, SharedStores, Stores
from pipeline.engine.state.table import Codecs
from pipeline.topology import Topology
from pipeline.worker.addresses import LOCAL, Address, advertised_address, listening_address

# For how long a member that died may be in its group, by protocol: its session, which the broker sets for the second,
# and some time for the broker to look.
LEFT_S = {"classic": SESSION_S + 3.0, "consumer": 50.0}


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What one worker process runs, and where. `port` 0 takes a free one; `slot` None takes the first free one.

    `advertise`: what others are to call, `HOST` or `HOST:PORT`; None: the address that it listens on.

    `ready_lag_s`: how many seconds behind a service may be that is ready.

    `token_file`: of the access tokens that requests need; None: they need none.

    `cache_bytes`: decoded rows kept in memory, of all services together. `secret_file`: of unique values; None: one
    beside the state directory, which may be deleted while the secret may not, made if there is none.
    """

    bootstrap: str
    state_dir: Path
    services: tuple[str, ...] = ()
    node: str = ""
    slot: int | None = None
    host: str = LOCAL
    port: int = 0
    advertise: str | None = None
    token_file: Path | None = None
    standby: bool = False
    ready_lag_s: float = 60.0
    group_protocol: str = "classic"
    commit_interval_s: float = 0.1
    cache_bytes: int = 128 << 20
    secret_file: Path | None = None
    databases: Mapping[str, str] = field(default_factory=dict)  # service -> URL
    log_level: str = "INFO"
    trace: bool | None = None  # None: as the variables OTEL_* say
    raising_share: float | None = None  # in place of what the services declare
    raising_at_least: int | None = None  # the same
    together: bool = False  # whether all workers of this home end when this one does

    def listening(self) -> Address:
        """Return the address to listen on. Raises UnfitAddress, also if there is none to tell others."""
        address = listening_address(self.host, self.port)
        advertised_address(self.advertise, address)
        return address

    def advertised(self, port: int) -> Address:
        """Return what others are to call, if the worker listens on this port. Raises UnfitAddress."""
        address = advertised_address(self.advertise, listening_address(self.host, self.port))
        return address._replace(port=address.port or port)


def codecs_of(topology: Topology) -> Codecs:
    """Return the factory of a topology's codecs; what they write is registered if a schema registry is in use."""
    return served_codecs(topology.schemas, topology.names, registers=True)


@dataclass(frozen=True, slots=True)
class Adapters:
    """The factories of a worker's clients, stores and codecs.

    Fault injection wraps the clients. `codecs` makes what reads and writes the records of a topology; another one puts
    the engine on topics whose records others have agreed on.
    """

    consumer: Callable[[str, str, str, str, str], GroupConsumer] = KafkaGroupConsumer
    producer: Callable[[str, str], Producer] = KafkaProducer
    reader: Callable[[str, str], LogReader] = KafkaLogReader
    stores: Callable[[Stores], Stores] = lambda stores: stores
    shared: Callable[[SharedStores], SharedStores] = lambda shared: shared
    codecs: Callable[[Topology], Codecs] = codecs_of


class MachineClock:
    """The machine's own clock."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def time_ms(self) -> int:
        return time.time_ns() // 1_000_000

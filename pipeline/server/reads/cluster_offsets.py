"""Committed offsets of services and ends of logs, as one worker knows them. All readers here share them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from pipeline.engine.ports import TP
from pipeline.errors import NotYet, PipelineError, TableUnavailable
from pipeline.flow import Folder
from pipeline.server.reads.batching import Batched, Waiting

T = TypeVar("T")
POLL_S = 0.025  # how often the broker is asked for committed offsets while a reader waits
ASK_S = 1.0
THREADS = 4


class Broker(Protocol):
    """Requests to the broker, by names on the cluster. Each blocks, and each may raise."""

    def committed(self, group: str, partitions: Iterable[TP], patience_s: float) -> Mapping[TP, int]: ...
    def ends(self, partitions: Sequence[TP]) -> Mapping[TP, int]: ...
    def barriers(self, partitions: Collection[TP]) -> Mapping[TP, int]: ...
    def partitions(self, topic: str) -> int: ...
    def close(self) -> None: ...


class ClusterOffsets:
    """Asks the broker as little as possible: one request of each kind at a time, for all readers that wait.

    `local(service, tp)`: the offset that a lane of this process has committed, None if it does not fold `tp`. `names`:
    see Topology.
    """

    def __init__(
        self, broker: Broker, local: Callable[[str, TP], int | None], names: Mapping[str, str] | None = None
    ) -> None:
        self._broker, self._local, self._names = broker, local, names or {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="cluster-offsets")
        self._reached: dict[Folder, int] = {}  # never decreases: a position that was passed stays passed
        self._counts: dict[str, int] = {}
        self._waiting = Waiting(self._folded_to)
        self._pollers: dict[str, asyncio.Task[None]] = {}  # by service
        self._closed = False
        self._ends = Batched(partial(self._ask, broker.ends), self._untold)
        self._barriers = Batched(partial(self._ask, broker.barriers), self._unstored)

    def moved(self) -> None:
        """Wake readers after a lane of this process may have committed, or given up partitions."""
        self._waiting.moved()
        for folder in self._waiting.keys:
            self._attend(folder)

    async def close(self) -> None:
        """End all waits at once; otherwise the worker would wait for them in turn."""
        self._waiting.end(lambda: TableUnavailable("this worker is stopping; ask another"))
        self._closed = True
        for poller in self._pollers.values():
            poller.cancel()
        await asyncio.gather(*self._pollers.values(), return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._broker.close)

    # --- questions ----------------------------------------------------------------------------------------------------

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of a topic."""
        if topic not in self._counts:
            self._counts[topic] = await self._blocking(self._broker.partitions, self._called(topic))
        return self._counts[topic]

    async def end(self, tp: TP, until_s: float) -> int:
        """Return the offset after the last record of a partition, now. Raises NotYet, TableUnavailable."""
        return await self._in_time(self._ends.get(self._there(tp)), until_s, f"where {tp.topic} ends")

    async def barrier(self, tp: TP, until_s: float) -> int:
        """Write a barrier to a partition and return its offset. Raises NotYet, TableUnavailable."""
        return await self._in_time(
            self._barriers.get(self._there(tp)), until_s, f"where a barrier on {tp.topic} stands"
        )

    async def passed(self, wanted: Mapping[Folder, int], until_s: float) -> None:
        """Wait until services have committed past these offsets. Raises NotYet with each lagging service."""
        waits = [self._passed(folder, offset, until_s) for folder, offset in wanted.items()]
        if not all(await asyncio.gather(*waits)):
            behind = [(folder, offset) for folder, offset in wanted.items() if self._folded_to(folder) <= offset]
            raise not_yet([(*folder, offset, self._folded_to(folder)) for folder, offset in behind])

    # --- helpers ------------------------------------------------------------------------------------------------------

    async def _passed(self, folder: Folder, offset: int, until_s: float) -> bool:
        if self._folded_to(folder) <= offset:
            self._attend(folder)
        return await self._waiting.past(folder, offset, until_s)

    def _folded_to(self, folder: Folder) -> int:
        local = self._local(folder.service, self._there(TP(folder.topic, folder.partition)))
        reached = self._reached.get(folder, 0)
        if local is not None and local > reached:
            reached = self._reached[folder] = local
        return reached

    def _is_local(self, folder: Folder) -> bool:
        return self._local(folder.service, self._there(TP(folder.topic, folder.partition))) is not None

    def _attend(self, folder: Folder) -> None:
        """Poll the broker for the committed offsets of a service that folds elsewhere."""
        running = self._pollers.get(folder.service)
        if (running is None or running.done()) and not (self._closed or self._is_local(folder)):
            self._pollers[folder.service] = asyncio.create_task(self._poll(folder.service))

    async def _poll(self, service: str) -> None:
        while asked := [f for f in self._waiting.keys if f.service == service and not self._is_local(f)]:
            places = {self._there(TP(folder.topic, folder.partition)): folder for folder in asked}
            told = await self._blocking(self._broker.committed, self._called(service), list(places), ASK_S)
            for tp, offset in told.items():
                self._reached[places[tp]] = max(offset, self._reached.get(places[tp], 0))
            self._waiting.moved()
            await asyncio.sleep(POLL_S)

    async def _ask(
        self, question: Callable[[list[TP]], Mapping[TP, int]], partitions: Collection[TP]
    ) -> Mapping[TP, int]:
        return await self._blocking(question, list(partitions))

    async def _blocking(self, call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    async def _in_time(self, answer: Awaitable[int], until_s: float, what: str) -> int:
        try:
            async with asyncio.timeout_at(until_s):
                return await answer
        except TimeoutError:
            raise NotYet(f"the broker did not say in time {what}") from None

    def _called(self, name: str) -> str:
        return self._names.get(name, name)

    def _there(self, tp: TP) -> TP:
        return TP(self._called(tp.topic), tp.partition)

    @staticmethod
    def _untold(tp: TP) -> PipelineError:
        return TableUnavailable(f"the broker did not say where {tp.topic}-{tp.partition} ends; ask again")

    @staticmethod
    def _unstored(tp: TP) -> PipelineError:
        return TableUnavailable(f"the broker did not store a barrier on {tp.topic}-{tp.partition}; ask again")


class BoundedOffsets:
    """An `OffsetSource` whose waits end at a moment of the event loop's clock."""

    def __init__(self, offset_source: ClusterOffsets, until_s: float) -> None:
        self._offset_source, self._until_s = offset_source, until_s
        self.partitions = offset_source.partitions

    async def passed(self, wanted: Mapping[Folder, int]) -> None:
        """See ClusterOffsets."""
        await self._offset_source.passed(wanted, self._until_s)

    async def ends(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        """See ClusterOffsets."""
        ends = await asyncio.gather(*[self._offset_source.end(TP(*place), self._until_s) for place in partitions])
        return dict(zip(partitions, ends, strict=True))


def not_yet(behind: Sequence[tuple[str, str, int, int, int]]) -> NotYet:
    """Return the error that lists (service, topic, partition, offset to pass, next offset to fold) of each laggard."""
    hops = [
        {"service": service, "topic": topic, "partition": n, "wanted": wanted, "folded": folded}
        for service, topic, n, wanted, folded in behind
    ]
    first = "; ".join(
        f"{service} has folded {topic}/{n} up to {folded}, which is not past {wanted}"
        for service, topic, n, wanted, folded in behind[:3]
    )
    more = f", and {len(behind) - 3} more" if len(behind) > 3 else ""
    return NotYet(f"not there in time: {first}{more}", hops)

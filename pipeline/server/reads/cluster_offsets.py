"""What one worker sees of the cluster: how far services have folded, where logs end. Shared by all who read here."""

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
POLL_S = 0.025  # how often the broker is asked how far others have got, while somebody waits for it
ASK_S = 1.0
THREADS = 4


class Broker(Protocol):
    """The questions that only the broker can answer, by names of the cluster. Each blocks; any may raise."""

    def committed(self, group: str, partitions: Iterable[TP], patience_s: float) -> Mapping[TP, int]: ...
    def ends(self, partitions: Sequence[TP]) -> Mapping[TP, int]: ...
    def barriers(self, partitions: Collection[TP]) -> Mapping[TP, int]: ...
    def partitions(self, topic: str) -> int: ...
    def close(self) -> None: ...


class ClusterOffsets:
    """Asks the broker as little as possible: of each kind, one question at a time for all that wait for it.

    `local(service, tp)`: what a lane of this process has committed, None where it does not fold that partition.
    `names`: see Topology.
    """

    def __init__(
        self, broker: Broker, local: Callable[[str, TP], int | None], names: Mapping[str, str] | None = None
    ) -> None:
        self._broker, self._local, self._names = broker, local, names or {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="cluster-offsets")
        self._reached: dict[Folder, int] = {}  # never falls: what was passed once stays passed
        self._counts: dict[str, int] = {}
        self._waiting = Waiting(self._folded_to)
        self._pollers: dict[str, asyncio.Task[None]] = {}  # by service
        self._closed = False
        self._ends = Batched(partial(self._ask, broker.ends), self._untold)
        self._barriers = Batched(partial(self._ask, broker.barriers), self._unstored)

    def moved(self) -> None:
        """A lane of this process may have committed, or given partitions up."""
        self._waiting.moved()
        for folder in self._waiting.keys:
            self._attend(folder)

    async def close(self) -> None:
        """Ends what is under way; whoever waits is told at once, as the worker would wait for them in turn."""
        self._waiting.end(lambda: TableUnavailable("this worker is ending; ask another"))
        self._closed = True
        for poller in self._pollers.values():
            poller.cancel()
        await asyncio.gather(*self._pollers.values(), return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._broker.close)

    # --- questions ----------------------------------------------------------------------------------------------------

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        if topic not in self._counts:
            self._counts[topic] = await self._blocking(self._broker.partitions, self._called(topic))
        return self._counts[topic]

    async def end(self, tp: TP, until_s: float) -> int:
        """The offset behind the last record of a partition, now. Raises NotYet, TableUnavailable."""
        return await self._in_time(self._ends.get(self._there(tp)), until_s, f"where {tp.topic} ends")

    async def barrier(self, tp: TP, until_s: float) -> int:
        """The offset of a barrier that is written to a partition after this call. Raises NotYet, TableUnavailable."""
        return await self._in_time(
            self._barriers.get(self._there(tp)), until_s, f"where a barrier on {tp.topic} stands"
        )

    async def passed(self, wanted: Mapping[Folder, int], until_s: float) -> None:
        """Waits until services have committed past these offsets. Raises NotYet, which says how far they are."""
        waits = [self._passed(folder, offset, until_s) for folder, offset in wanted.items()]
        if not all(await asyncio.gather(*waits)):
            behind = [(folder, offset) for folder, offset in wanted.items() if self._folded_to(folder) <= offset]
            raise not_yet([(*folder, offset, self._folded_to(folder)) for folder, offset in behind])

    # --- small things -------------------------------------------------------------------------------------------------

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
        """Sees to it that the broker is asked how far a service is that folds elsewhere."""
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
            raise NotYet(f"the broker has not said in time {what}") from None

    def _called(self, name: str) -> str:
        return self._names.get(name, name)

    def _there(self, tp: TP) -> TP:
        return TP(self._called(tp.topic), tp.partition)

    @staticmethod
    def _untold(tp: TP) -> PipelineError:
        return TableUnavailable(f"the broker does not say where {tp.topic}-{tp.partition} ends; ask again")

    @staticmethod
    def _unstored(tp: TP) -> PipelineError:
        return TableUnavailable(f"the broker has not stored a barrier on {tp.topic}-{tp.partition}; ask again")


class BoundedOffsets:
    """An `OffsetSource` with patience until a moment of the event loop's clock."""

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
    """What says how far each is: service, topic, partition, the offset to be past, the next to be folded."""
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

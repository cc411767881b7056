"""The host of a lane inside the worker: its thread, its turns, and another lane in place of one that has failed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import faust

from pipeline.adapters.rocksdb.database import StateFigures
from pipeline.drive import drive_async
from pipeline.engine.loop.lane import Lane
from pipeline.engine.loop.supervision import Call, Now, Pause, Step, Turn, supervise
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import Batch
from pipeline.engine.stats import LaneStats, LargestLately
from pipeline.errors import BadRequest, NotParked, Overloaded, Retryable, TableUnavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
OpenLane = Callable[[LaneStats], Lane]
STOP_S = 8.0
LOOK_S, LATE_WINDOW_S = 0.05, 60.0  # how often, and over what time, the event loop is looked at
STEP_MAX_S = 150.0  # more than all patience of one step; less than the five minutes that the group has


ASKED_MAX = 16  # requests of operators that wait for a lane


class Stuck(Retryable):
    """The lane's thread does not return from a step. Another lane would need that thread."""


class LaneHost(faust.Service):
    """Drives one service's lane: turns in a thread of its own, batches by way of the Faust agents.

    A lane that cannot go on is abandoned and another opened in its place; that ends broker troubles and fencing.
    `failed` is called with an error that a new lane does not cure; `moved`, in the event loop, when readers may see
    new rows. `sizes`: says how large its local tables are.
    """

    abstract = False

    def __init__(
        self,
        plan: ServicePlan,
        open_lane: OpenLane,
        failed: Callable[[BaseException], None],
        sizes: Callable[[], Mapping[str, StateFigures]],
    ) -> None:
        super().__init__()
        self.plan, self.stats, self.sizes = plan, LaneStats(), sizes
        self._open_lane, self._failed = open_lane, failed
        self.lane = self._make()
        self.channels: dict[str, Any] = {}
        self.moved: Callable[[], None] = lambda: None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"lane-{plan.service.name}")
        self._asked: deque[tuple[Callable[[Lane], Any], asyncio.Future[Any]]] = deque()
        self.stepped_s = time.monotonic()  # when the lane's thread last returned from a step
        self.trouble = ""  # why there is no lane at present; empty while one makes its turns
        self._turning: asyncio.Future[Any] | None = None
        self._ending, self._end_s = asyncio.Event(), 0.0  # the latter: when it is no longer waited for the lane

    async def in_thread(self, call: Callable[..., T], *args: Any) -> T:
        """Run `call` in the lane's thread, after all earlier calls."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)
        finally:
            self.stepped_s = time.monotonic()

    async def _bounded(self, call: Callable[..., T], *args: Any) -> T:
        """Run one step of a turn in the lane's thread. Raises Stuck if it takes too long."""
        try:
            return await asyncio.wait_for(self.in_thread(call, *args), STEP_MAX_S)
        except TimeoutError:
            raise Stuck(f"a step of the lane takes more than {STEP_MAX_S:.0f} s; start the worker again") from None

    async def lanes(self) -> None:
        """Run one lane after the other, until the service stops or an error ends the worker."""
        try:
            await drive_async(supervise(self.plan.service.name, self.stats, self._make, self.lane), self._do)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._failed(error)

    def _make(self) -> Lane:
        self.lane = self._open_lane(self.stats)
        return self.lane

    async def _do(self, step: Step) -> Lane | Now | None:
        match step:
            case Call(call, error):
                if error is not None:
                    self.trouble = str(error)
                    self._refuse_all()
                if not isinstance(error, Stuck):  # if it is, only the end of the process helps
                    return await self.in_thread(call)
            case Turn(lane):
                await self._turn(lane)
                self.trouble = ""
            case Pause(seconds):
                self.moved()  # its tables are gone
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), seconds)
        return Now(time.monotonic(), self.should_stop or self._ending.is_set())

    async def _turn(self, lane: Lane) -> None:
        batches = await self._bounded(lane.poll)
        self.moved()  # replicas have followed, tasks have started or gone
        if batches:
            await asyncio.gather(*[self._hand_out(batch) for batch in batches])
        await self._bounded(lane.commit_if_due)
        self.moved()  # a checkpoint may have been made
        await self._serve()

    # --- operators ----------------------------------------------------------------------------------------------------

    async def ask(self, call: Callable[[Lane], T]) -> T:
        """Run `call` on the lane, in its thread and between its turns. Raises Overloaded if too many calls wait.

        Raises TableUnavailable if the lane ends meanwhile; the outcome is unknown then.
        """
        if self._ending.is_set():
            raise TableUnavailable("this worker is stopping; ask another")
        if len(self._asked) >= ASKED_MAX:
            raise Overloaded(f"{ASKED_MAX} requests wait for {self.plan.service.name!r} already; ask again")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append((call, done))
        answer: T = await done
        return answer

    async def _serve(self) -> None:
        """Run the waiting calls. An error that ends the lane is raised here and to the caller."""
        while self._asked:
            call, done = self._asked.popleft()
            if done.cancelled():
                continue
            try:
                answer = await self._bounded(call, self.lane)
            except (BadRequest, NotParked, TableUnavailable) as error:
                _set(done, error)
            except BaseException as error:
                _set(
                    done, TableUnavailable(f"the outcome is unknown: {error}; look whether it was done, and ask again")
                )
                raise
            else:
                if not done.done():
                    done.set_result(answer)

    def _refuse_all(self) -> None:
        while self._asked:
            _set(self._asked.popleft()[1], TableUnavailable("the service is being opened again; ask again"))

    async def on_started(self) -> None:
        self._turning = self.add_future(self.lanes())
        self.add_future(self.watch_the_loop())

    async def watch_the_loop(self) -> None:
        """Measure how late the event loop runs: what delays the interpreter, or the loop itself, also delays HTTP."""
        late = LargestLately(LATE_WINDOW_S)
        while not self.should_stop:
            before_s = time.monotonic()
            await asyncio.sleep(LOOK_S)
            now_s = time.monotonic()
            self.stats.loop_late_s = late.add(now_s, now_s - before_s - LOOK_S)

    async def end(self) -> None:
        """Finish the current turn, commit, and hand the partitions over, within a bounded time."""
        if not self._ending.is_set():
            self._ending.set()
            self._end_s = time.monotonic() + STOP_S
            self._refuse_all()
        if self._turning is not None:
            await asyncio.wait([self._turning], timeout=max(0.0, self._end_s - time.monotonic()))

    async def on_stop(self) -> None:
        """Be at the end of the lane, as far as there is one."""
        await self.end()
        if self._turning is not None and not self._turning.done():
            log.warning("%s: stopped in the middle of a turn, as the broker does not answer", self.plan.service.name)
        self._thread.shutdown(wait=False)

    async def _hand_out(self, batch: Batch) -> None:
        """Pass a batch to its topic's agent, and wait until it is folded; no more is read before that."""
        folded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self.channels[batch.tp.topic].put((self.lane, batch, folded))
        await folded

    def agent(self) -> Callable[[AsyncIterable[Any]], Awaitable[None]]:
        """The agent function of each source topic."""

        async def fold(batches: AsyncIterable[tuple[Lane, Batch, asyncio.Future[None]]]) -> None:
            async for lane, batch, folded in batches:
                try:
                    await self._bounded(lane.fold, batch)
                except BaseException as error:
                    folded.set_exception(error)
                    if isinstance(error, asyncio.CancelledError):
                        raise
                else:
                    folded.set_result(None)

        return fold


def _set(done: asyncio.Future[Any], error: Exception) -> None:
    if not done.done():  # who has asked may have gone
        done.set_exception(error)

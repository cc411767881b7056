"""The watches of one worker: a thread follows row topics, and each watch has a bounded stream in the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from pipeline.client.wire.watch_end import BROKEN, CLOSING, LOST, SLOW
from pipeline.engine.ports import LogReader
from pipeline.errors import Overloaded
from pipeline.server.watch.row_tail import Event, TailWithCatchUp, Watch

log = logging.getLogger(__name__)

WATCHERS_MAX = 1_000
BUFFER_BYTES = 256 * 1024  # of one watch; a single row may be larger
POLL_S = 0.05
PAUSE_S = 1.0  # before another try after an error


class Subscription:
    """The events for a reader, in the event loop. `passed`: events before this offset were handed over, or soon are."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.passed = watch, watch.next
        self.ended: str | None = None
        self._texts: deque[str] = deque()
        self._bytes = 0
        self._news = asyncio.Event()

    def take_in(self, came: list[Event], passed: int) -> None:
        """Queue events. If too many wait, end the stream before the first that does not fit."""
        for event in came:
            if self.ended is None:
                if self._bytes and self._bytes + len(event.text) > BUFFER_BYTES:
                    self.end(SLOW)
                    return
                self._texts.append(event.text)
                self._bytes += len(event.text)
        if self.ended is None:
            self.passed = passed
        if came:
            self._news.set()

    def end(self, why: str) -> None:
        """End the stream; further events are dropped."""
        self.ended = self.ended or why
        self._news.set()

    async def news(self, patience_s: float) -> str:
        """Return the text of new events, waiting for them up to `patience_s`; empty if there are none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._news.wait()
        if self.ended is None:
            self._news.clear()
        texts = "".join(self._texts)
        self._texts.clear()
        self._bytes = 0
        return texts


class Subscriptions:
    """All watches of a worker. They share two readers, which open with the first watch."""

    def __init__(self, open_reader: Callable[[str], LogReader]) -> None:
        self._open_reader = open_reader
        self._streams: dict[Watch, Subscription] = {}  # used in the event loop only
        self._changes: deque[tuple[Watch, bool]] = deque()  # whether to add or remove each
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    # --- in the event loop --------------------------------------------------------------------------------------------

    @property
    def watchers(self) -> int:
        """The number of watches."""
        return len(self._streams)

    def check(self) -> None:
        """Raise Overloaded if there is no room for another watch."""
        if self._closed or len(self._streams) >= WATCHERS_MAX:
            why = "the worker is stopping" if self._closed else f"this worker has {WATCHERS_MAX} watches already"
            raise Overloaded(f"{why}; ask another worker, or again later")

    def open(self, watch: Watch) -> Subscription:
        """Open a stream of a watch's events. Raises Overloaded."""
        self.check()
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
            self._thread.start()
        stream = self._streams[watch] = Subscription(watch)
        self._change(watch, wanted=True)
        return stream

    def leave(self, stream: Subscription) -> None:
        """Remove a stream whose reader has gone."""
        if self._streams.pop(stream.watch, None) is not None:
            self._change(stream.watch, wanted=False)

    async def close(self) -> None:
        """End all streams, and the thread."""
        self._closed = True
        for stream in self._streams.values():
            stream.end(CLOSING)
        self._wake.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _change(self, watch: Watch, *, wanted: bool) -> None:
        self._changes.append((watch, wanted))
        self._wake.set()

    def _take_in(self, told: list[tuple[Watch, list[Event], int]]) -> None:
        for watch, came, passed in told:
            if stream := self._streams.get(watch):
                stream.take_in(came, passed)

    def _end(self, watches: Iterable[Watch], why: str) -> None:
        for watch in watches:
            if stream := self._streams.get(watch):
                stream.end(why)

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            readers: list[LogReader] = []
            watches: set[Watch] = set()
            try:
                for name in ("watch", "watch-behind"):
                    readers.append(self._open_reader(name))
                self._follow(TailWithCatchUp(*readers), watches)
            except Exception as error:  # such as a deleted topic; the readers ask again
                log.warning("watches end and start again: %s", error)
                self._take_changes(watches)
                self._tell(partial(self._end, watches, BROKEN))
                self._wake.clear()
            finally:
                for reader in readers:
                    reader.close()
            self._wake.wait(PAUSE_S)

    def _follow(self, tail: TailWithCatchUp, watches: set[Watch]) -> None:
        while not self._closed:
            for watch, wanted in self._take_changes(watches):
                (tail.add if wanted else tail.remove)(watch)
            if tail.idle:
                self._wake.wait()
                self._wake.clear()
                continue
            moved, lost = tail.step(POLL_S)
            if told := [(watch, watch.drain(), watch.next) for watch in moved]:
                self._tell(partial(self._take_in, told))
            if lost:
                self._tell(partial(self._end, lost, LOST))

    def _take_changes(self, watches: set[Watch]) -> list[tuple[Watch, bool]]:
        changes = []
        while self._changes:
            watch, wanted = self._changes.popleft()
            changes.append((watch, wanted))
            (watches.add if wanted else watches.discard)(watch)
        return changes

    def _tell(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

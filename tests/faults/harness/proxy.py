"""A TCP proxy in front of a broker that can be cut, held and healed, or lose the answer to a request, or delay one.

It can also leave the brokers out of what is told of the cluster, as a broker does that has lost its controller.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

METADATA = 3  # an API key: which brokers, topics and leaders there are
END_TXN = 26  # the API key of EndTxn: the request that commits


class Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, broker: asyncio.StreamWriter) -> None:
        self._writers = client, broker
        self.answer_is_lost = False
        self.delays = False
        self.answered = asyncio.Event()  # the broker has sent something
        self.metadata_asked: set[int] = set()  # by the ids of requests

    def reset(self) -> None:
        """Ends both sides at once, as a cut line looks to them."""
        for writer in self._writers:
            abort(writer)

    def give_up(self) -> None:
        """Ends the client's side alone."""
        abort(self._writers[0])


def abort(writer: asyncio.StreamWriter) -> None:
    """Closes with RST instead of a farewell."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxy:
    """Listens on a port of its own and passes on to `target`. All methods may be called from any thread."""

    def __init__(self) -> None:
        self.port, self.target = 0, 0
        self.resets = 0  # connections ended or refused by a cut
        self.held = 0  # packets that had to wait
        self.lost = threading.Event()  # an armed loss has happened
        self._cut = False
        self._losing: int | None = None
        self._delaying: int | None = None
        self.delayed = threading.Event()  # an armed delay has begun
        self._hiding = False
        self.hidden = 0  # answers without brokers
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._call(self._listen)

    def _call(self, make: Callable[[], Any]) -> Any:
        async def run() -> Any:
            result = make()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    async def _listen(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._deliver = asyncio.Event()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    # --- what a test does to it ---------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Resets all connections, and any new one, until healed."""
        self._cut = True
        self._call(self._reset_all)

    def hold(self) -> None:
        """Passes nothing on until healed; connections stay."""
        self._call(self._hold)

    def hide_brokers(self) -> None:
        """Until healed, no broker is named where the cluster is asked for."""
        self._hiding = True

    def heal(self) -> None:
        """All as it was; what was held goes on."""
        self._cut = self._hiding = False
        self._call(self._release)

    def lose_answer(self, api_key: int) -> None:
        """The broker gets and answers the next such request, but the connection breaks before the answer is through."""
        self.lost.clear()
        self._losing = api_key

    def delay(self, api_key: int) -> None:
        """Keep the next such request back until `deliver`, and the connection open on the broker's side."""
        self.delayed.clear()
        self._call(lambda: self._deliver.clear())
        self._delaying = api_key

    def give_up(self) -> None:
        """Reset the connection of what is delayed on the client's side."""
        self._call(lambda: self._delaying_link().give_up())

    def deliver(self) -> None:
        """Pass on what was delayed; return once the broker has answered."""
        link = self._delaying_link()
        self._call(lambda: link.answered.clear())
        self._call(lambda: self._deliver.set())
        self._call(lambda: link.answered.wait())

    def _delaying_link(self) -> Link:
        (link,) = [link for link in self._links if link.delays]
        return link

    def close(self) -> None:
        """Ends it with all connections."""
        self._call(self._reset_all)
        self._call(lambda: self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _hold(self) -> None:
        self._open.clear()

    def _release(self) -> None:
        self._open.set()

    def _reset_all(self) -> None:
        self.resets += len(self._links)
        for link in list(self._links):
            link.reset()

    # --- passing on ---------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            self.resets += 1
            abort(writer)
            return
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            abort(writer)
            return
        link = Link(writer, to_broker)
        self._links.add(link)
        pumps = [
            asyncio.ensure_future(self._requests(link, reader, to_broker)),
            asyncio.ensure_future(self._answers(link, from_broker, writer)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        link.reset()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._links.discard(link)

    async def _requests(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            size = await reader.readexactly(4)
            request = await reader.readexactly(int.from_bytes(size, "big"))
            await self._wait_while_held()
            if int.from_bytes(request[:2], "big") == METADATA:
                link.metadata_asked.add(int.from_bytes(request[4:8], "big"))
            if self._losing == int.from_bytes(request[:2], "big"):
                self._losing = None
                link.answer_is_lost = True
            late = self._delaying == int.from_bytes(request[:2], "big")
            if late:
                self._delaying, link.delays = None, True
                self.delayed.set()
                await self._deliver.wait()
            writer.write(size + request)
            await writer.drain()
            if late:  # its client may be gone, which is not to take the request along
                await link.answered.wait()

    async def _answers(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            size = await reader.readexactly(4)
            answer = await reader.readexactly(int.from_bytes(size, "big"))
            link.answered.set()
            await self._wait_while_held()
            if link.answer_is_lost:
                self.lost.set()
                return  # which resets the connection
            asked = int.from_bytes(answer[:4], "big")
            if asked in link.metadata_asked:
                link.metadata_asked.remove(asked)
                if self._hiding:
                    answer, self.hidden = without_brokers(answer), self.hidden + 1
            writer.write(len(answer).to_bytes(4, "big") + answer)
            await writer.drain()

    async def _wait_while_held(self) -> None:
        if not self._open.is_set():
            self.held += 1
            await self._open.wait()


def without_brokers(answer: bytes) -> bytes:
    """Return an answer to a metadata request, of version 9 or later, with an empty list of brokers."""
    begin = 4 + 1 + 4  # the request's id, no tags, the throttle time
    count, at = _number(answer, begin)
    for _ in range(count - 1):
        at = _behind_text(answer, at + 4)  # the broker's id and host
        at = _behind_text(answer, at + 4) + 1  # its port and rack, no tags
    return answer[:begin] + b"\x01" + answer[at:]


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _behind_text(data: bytes, at: int) -> int:
    size, at = _number(data, at)
    return at + max(0, size - 1)

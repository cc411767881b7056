"""Clients that send commands and, on request, wait for replies: one for threads, one for asyncio.

Both have the same methods, documented in `command_requests`.
"""

from __future__ import annotations

from pipeline.client.command_requests import CommandRequests, Options, Pending
from pipeline.client.commands import Commands
from pipeline.client.facade import Async, Sync, call, call_async
from pipeline.client.sending import QUEUE_S
from pipeline.client.wire.access import Access, Given
from pipeline.topology import Topology

__all__ = ["AsyncClient", "Client", "Options", "Pending"]


class Client(Sync[CommandRequests]):
    """Sends commands. Safe to use from several threads. Use as a context manager, or `close` it at the end.

    `name`: the requester's; replies come over the topic `<name>.reply`. Instances of one name share the topic, and each
    reads only its own replies. `token`: see QueryClient; workers are asked what is known of a command without a reply.
    """

    def __init__(self, bootstrap: str, topology: Topology, name: str = "client", *, token: Given = None) -> None:
        access = Access(token)
        self._open(CommandRequests(bootstrap, topology, name, QUEUE_S, access), access)

    @property
    def commands(self) -> Commands:
        """The codec of the topology's commands and replies."""
        return self._steps.commands

    send = call(CommandRequests.send)
    ask = call(CommandRequests.ask)
    store = call(CommandRequests.store)
    outcome = call(CommandRequests.outcome)
    listen = call(CommandRequests.listen)
    flush = call(CommandRequests.flush)


class AsyncClient(Async[CommandRequests]):
    """Sends commands, in one event loop. Use as an asynchronous context manager, or `close` it at the end.

    Takes the arguments of Client. The constructor blocks until the broker, and a schema registry if one is in use,
    answers. `await client.send(...)`.
    """

    def __init__(self, bootstrap: str, topology: Topology, name: str = "client", *, token: Given = None) -> None:
        access = Access(token)
        self._open(CommandRequests(bootstrap, topology, name, 0.0, access), access)

    @property
    def commands(self) -> Commands:
        """The codec of the topology's commands and replies."""
        return self._steps.commands

    send = call_async(CommandRequests.send)
    ask = call_async(CommandRequests.ask)
    store = call_async(CommandRequests.store)
    outcome = call_async(CommandRequests.outcome)
    listen = call_async(CommandRequests.listen)
    flush = call_async(CommandRequests.flush)

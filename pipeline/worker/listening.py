"""The port that a worker serves HTTP on: chosen and held before anything else, served once all is ready."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import faust
from aiohttp.web import SockSite

from pipeline.adapters.rocksdb.stores import RocksStores
from pipeline.errors import LaneFatal, PipelineError
from pipeline.worker.addresses import Address
from pipeline.worker.settings import WorkerSettings

NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True, slots=True)
class Bound:
    """A port that is held for this process, and not listened on yet: who connects is refused, and asks elsewhere."""

    port: int
    held: socket.socket
    claim: socket.socket | None

    def close(self) -> None:
        """Release the port."""
        self.held.close()
        if self.claim is not None:
            self.claim.close()


def bind(host: str, port: int) -> Bound:
    """Bind a port. Raises OSError if another process has it, or if the machine has no such address."""
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # such as a part of a name that is too long
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from None
    for n, place in enumerate(places):  # a name may have an address that this machine has not
        try:
            return _bind(*place)
        except OSError as error:
            if error.errno not in NO_SUCH_ADDRESS or n == len(places) - 1:
                raise
    raise socket.gaierror(socket.EAI_NONAME, "it has no address")


def _bind(family: int, kind: int, protocol: int, _: str, address: Any) -> Bound:
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last worker may linger
        bound.bind(address)
        return Bound(bound.getsockname()[1], bound, _claim(bound))
    except BaseException:
        bound.close()
        raise


def _claim(bound: socket.socket) -> socket.socket | None:
    """Linux has several processes bind the same port until one listens; among workers, this name keeps others out."""
    if sys.platform != "linux":
        return None
    host, port = bound.getsockname()[:2]
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0kafka-pipeline-worker-{host}-{port}")
    except OSError:
        claim.close()
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
    return claim


def choose_port(settings: WorkerSettings, slots: Sequence[RocksStores]) -> Bound:
    """The port asked for; else the one that these slots' last worker had; else any free one. Held from here on.

    A worker that keeps its port keeps its identity in the groups, see `lane_opener`. PipelineError if the port asked
    for is taken.
    """
    host = settings.listening().host
    if not settings.port:
        for port in [stores.last_port for stores in slots if stores.last_port]:
            try:
                return bind(host, port)
            except OSError:  # another has taken it meanwhile
                continue
    try:
        return bind(host, settings.port)
    except OSError as error:
        raise _taken(settings, settings.port, error) from None


def _taken(settings: WorkerSettings, port: int, error: OSError) -> PipelineError:
    what = f"cannot listen on {Address(settings.listening().host, port)}: {error.strerror or error}"
    if isinstance(error, socket.gaierror) or error.errno in NO_SUCH_ADDRESS:
        return PipelineError(f"{what}; choose another --host, a name or an address of this machine")
    if error.errno == errno.EACCES:
        return PipelineError(f"{what}; choose a --port of 1024 or more, or 0 for any free one")
    if settings.port:
        return PipelineError(f"{what}; choose another --port, or 0 for any free one")
    if port:
        return LaneFatal(f"{what}; start the worker again, it takes another port")
    return PipelineError(f"{what}; choose another --host")


def serve_on(
    app: faust.App,
    bound: Bound,
    settings: WorkerSettings,
    started: Callable[[], None],
    failed: Callable[[BaseException], None],
) -> None:
    """Make the app serve HTTP on that port. Call `started` once it does, `failed` if it cannot."""
    web = cast(Any, app.web)  # how it makes its sites, Faust's own type does not show

    class Site(SockSite):
        async def start(self) -> None:
            try:
                await super().start()
            except OSError as error:
                failed(_taken(settings, bound.port, error))
            else:
                started()

    web._transport_handlers["tcp"] = lambda: Site(web._runner, bound.held)

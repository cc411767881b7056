"""`pipeline dev` as a whole: the home, the broker, the services, and their end."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.broker import local
from pipeline.develop.candidate import Order
from pipeline.develop.held import held
from pipeline.develop.saves import Project
from pipeline.develop.session import Session
from pipeline.errors import PipelineError
from pipeline.process import Children, orderly_end

PORT = 6066
LOCAL = "127.0.0.1"
Started = Callable[[str, Mapping[str, Any], str], None]  # the URL, what was done, and the broker's address


def run(
    order: Order, place: Path, *, say: Callable[[str], None], started: Started, fresh: bool, keep_broker: bool
) -> int:
    """Run services until a signal comes, which raises Ended. Return an exit code if they cannot be started.

    `place`: the topology's file or package. `order.bootstrap`: "" for the local broker of the home, which is started
    and, unless `keep_broker`, ended if it did not run before. `fresh`: its data and the tables are deleted.
    `order.port`: 0 for the usual one, or another if that is taken.
    """
    home = Path(order.home)
    with orderly_end(), held(home) as lock:
        order = replace(order, port=_port(order.port, say))
        with (
            Children(holding=[lock]) as children,
            _broker(home, order, children, say, fresh=fresh, keep=keep_broker) as bootstrap,
        ):
            project = Project.around(place, home)
            tops = list(map(str, project.tops))
            order = replace(order, bootstrap=bootstrap, is_local=not order.bootstrap, fresh=fresh, project=tops)
            return Session(
                order, project, place, children, say, lambda url, ready: started(url, ready, bootstrap)
            ).run()


@contextmanager
def _broker(
    home: Path, order: Order, children: Children, say: Callable[[str], None], *, fresh: bool, keep: bool
) -> Iterator[str]:
    if order.bootstrap:
        yield order.bootstrap
        return
    directory = home / "broker"
    found = None if fresh else local.find(directory)
    if fresh:
        local.down(directory)
        shutil.rmtree(home / "state", ignore_errors=True)
    if found is None:
        say("starting a local Kafka …")
    try:
        running = local.up(directory, fresh=fresh, say=say, guard=None if keep else children)
        yield running.bootstrap
    finally:
        if found is None and not keep:
            say("stopping the local Kafka …")
            local.down(directory)


def _port(port: int, say: Callable[[str], None]) -> int:
    """Return the port to serve HTTP on; 0 for any. Raises PipelineError if the one that is asked for is taken."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((LOCAL, port or PORT))
        except OSError as error:
            if port:
                raise PipelineError(
                    f"cannot listen on {LOCAL}:{port}: {error.strerror}; choose another --port, or leave it out"
                ) from None
            say(f"port {PORT} is taken; HTTP gets another")
            return 0
    return port or PORT

"""`pipeline dev` as a whole: the home, the broker, the services, and their end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.develop.broker import LocalBroker
from pipeline.develop.candidate import Order
from pipeline.develop.held import held
from pipeline.develop.saves import Project
from pipeline.develop.session import Session, Settings
from pipeline.errors import PipelineError
from pipeline.process import Children, orderly_end

PORT = 6066
LOCAL = "127.0.0.1"
Started = Callable[[str, Mapping[str, Any], str], None]  # the URL, what was done, and the broker's address


def run(
    order: Order,
    place: Path,
    settings: Settings,
    *,
    say: Callable[[str], None],
    started: Started,
    fresh: bool,
    keep_broker: bool,
) -> int:
    """Run services until a signal comes, which raises Ended. Return an exit code if they cannot be started.

    `place`: the topology's file or package. `order.bootstrap`: "" for the local broker of the home, which is started
    and, unless `keep_broker`, ended if it did not run before. `fresh`: its data and the tables are deleted.
    `order.port`: 0 for the usual one, or another if that is taken.
    """
    home = Path(order.home)
    with orderly_end(), held(home) as lock:
        order = replace(order, port=_port(order.port, say))
        schemas = Path(order.schemas) if order.schemas else None
        project = Project.around(place, home, schemas, [settings.path])
        order = replace(order, is_local=not order.bootstrap, fresh=fresh, project=list(map(str, project.tops)))
        with ExitStack() as stack:
            children = stack.enter_context(Children(holding=[lock]))
            broker = None
            if order.is_local:
                broker = LocalBroker(home, children, say, keep=keep_broker)
                stack.callback(broker.stop)
                order = replace(order, bootstrap=broker.start(fresh=fresh))
            bootstrap = order.bootstrap

            def tell(url: str, ready: Mapping[str, Any]) -> None:
                started(url, ready, bootstrap)

            return Session(order, project, place, children, broker, settings, say, tell).run()


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

"""Carries the positions of what a browser has written: from the request to its clients, and back to the browser."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.client.wire.trace import continued
from pipeline.contrib.own_writes.positions import HEADER, OwnWrites, set_cookie
from pipeline.engine.tracing.port import HEADER as TRACE
from pipeline.errors import InvalidToken

KEY = "pipeline.contrib"  # of the scope


@dataclass(frozen=True, slots=True)
class Carried:
    """What the middleware hands to the dependencies. `error`: why the request's header cannot be used."""

    source: object  # the Clients
    writes: OwnWrites
    error: InvalidToken | None = None


class OwnWritesMiddleware:
    """Reads positions from the cookie and the header of a request, and sets both in its response.

    `cookie`: its name; empty for none.
    """

    def __init__(self, app: ASGIApp, source: object, cookie: str) -> None:
        self._app, self._source, self._cookie = app, source, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        carried = self._carried(HTTPConnection(scope))
        scope[KEY] = carried

        async def send_with_positions(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._mark(MutableHeaders(scope=message), scope, carried.writes)
            await send(message)

        with continued(HTTPConnection(scope).headers.get(TRACE)):
            await self._app(scope, receive, send_with_positions)

    def _carried(self, request: HTTPConnection) -> Carried:
        cookies = [each for line in request.headers.getlist("cookie") for each in _values(line, self._cookie)]
        try:
            return Carried(self._source, OwnWrites(cookies, request.headers.get(HEADER, "")))
        except InvalidToken as error:
            return Carried(self._source, OwnWrites(cookies), error)

    def _mark(self, headers: MutableHeaders, scope: Scope, writes: OwnWrites) -> None:
        if token := writes.token:
            headers[HEADER] = token
        if self._cookie and (value := writes.cookie) is not None:
            secure = scope["scheme"] == "https"
            text = set_cookie(self._cookie, value, path=scope.get("root_path", ""), secure=secure)
            headers.append("Set-Cookie", text)


def _values(line: str, name: str) -> list[str]:
    """Return the values of the cookies of that name: there may be one of each path above."""
    pairs = [part.strip().partition("=") for part in line.split(";")]
    return [value.strip('" ') for key, sign, value in pairs if sign and key.strip() == name]

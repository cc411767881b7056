"""Asks each request for an access token, and lets what it causes at other workers go under the same one."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from aiohttp import web

from pipeline.client.wire.access import HEADER, VARIABLE
from pipeline.errors import Unauthorized
from pipeline.server.access.tokens import AccessTokens
from pipeline.server.endpoints.probes import OPEN

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset(endpoint.path for endpoint in OPEN)
HOW = (
    f"send one as {HEADER}: Bearer …, as clients and the command line do with what {VARIABLE} says; make one with: "
    "pipeline token new NAME --file FILE"
)
REPEAT_S = 30.0  # between warnings of refused requests
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_presented: ContextVar[str] = ContextVar("presented", default="")


def presented() -> str | None:
    """Return the token of the request that is being served, for what it causes at other workers."""
    return _presented.get() or None


def required(tokens: AccessTokens | None) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """Return the middleware; it goes behind `as_problems`. `tokens`: None asks for none."""
    refused, told_s = 0, -REPEAT_S

    @web.middleware
    async def authenticated(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal refused, told_s
        token = _bearer(request)
        _presented.set(token)
        if tokens is not None and request.path not in OPEN_PATHS and tokens.caller(token) is None:
            refused, now_s = refused + 1, time.monotonic()
            if now_s - told_s >= REPEAT_S:
                log.warning("%d requests refused for their access token, the last from %s", refused, request.remote)
                refused, told_s = 0, now_s
            what = (
                "does not know this access token: it is revoked, or of others" if token else "asks for an access token"
            )
            raise Unauthorized(f"this worker {what}; {HOW}")
        return await handler(request)

    return authenticated


def _bearer(request: web.Request) -> str:
    """Return the token of a request; empty if it has none."""
    scheme, _, token = request.headers.get(HEADER, "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""

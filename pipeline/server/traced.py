"""The spans of a worker's HTTP requests. Each goes on with the trace of its caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from pipeline.client.wire.trace import continued
from pipeline.engine.tracing.port import HEADER, Kind, Tracer, traceparent

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TRACED, NEVER = "/v1/", ("/v1/status", "/watch")  # what is asked all the time, and what lasts for hours


def tracing(tracer: Tracer | None) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """Return the middleware, the first of all. Without a tracer, commands still carry the trace of the request."""

    @web.middleware
    async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
        header = request.headers.get(HEADER)
        resource = request.match_info.route.resource
        route = "" if resource is None else resource.canonical
        if tracer is None or not route.startswith(TRACED) or route.endswith(NEVER):
            if header is None:
                return await handler(request)
            with continued(header):
                return await handler(request)
        about = {
            "http.request.method": request.method,
            "http.route": route,
            "url.path": request.path,
            "url.scheme": "http",
        }
        with tracer.start(f"{request.method} {route}", Kind.SERVER, about, traceparent(header)) as span:
            try:
                with continued(span.header):
                    response = await handler(request)
                span.set({"http.response.status_code": response.status})
                if response.status >= 500:
                    span.fail(response.reason or "", str(response.status))
                return response
            except BaseException as error:
                span.fail(str(error), type(error).__name__)
                raise
            finally:
                span.end()

    return traced

"""Serves the pages with aiohttp: requests become values, replies become JSON, errors become problem documents."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy, MultiMapping

from pipeline.adapters.json.reading import parsed
from pipeline.adapters.json.writing import json_text
from pipeline.client.wire.read_options import parse_read_options
from pipeline.errors import BadRequest, PipelineError, TableUnavailable
from pipeline.server.endpoint import OWNERS, Endpoint, Page, Pages, Param, Reply, Request, Stream, problem
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import CONDITIONS, FORWARDED
from pipeline.server.replies import error_reply

log = logging.getLogger(__name__)

WRITE_S = 30.0  # a reader that takes nothing for so long is considered gone
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def mount(
    app: web.Application, dispatcher: Dispatcher, pages: Pages, table_now: Callable[[str], str] = lambda name: name
) -> None:
    """Add the pages' routes, in their order. `table_now`: returns the version of a table that readers presently get."""
    for endpoint, page in pages.items():
        app.router.add_route(endpoint.method, endpoint.path, _handler(dispatcher, endpoint, page, table_now))


def _handler(dispatcher: Dispatcher, endpoint: Endpoint, page: Page, table_now: Callable[[str], str]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = endpoint.body
        if body is not None and not body.takes_any_type and request.content_type != "application/json":
            return _response(problem(415, f"send {body.what} as application/json", "UnsupportedMediaType"))
        told = await dispatcher.answer(endpoint, page, await _request(endpoint, request, table_now))
        return await _streamed(request, told) if isinstance(told, Stream) else _response(told)

    return handle


async def _request(endpoint: Endpoint, request: web.Request, table_now: Callable[[str], str]) -> Request:
    """Return the request as a value. Raises BadRequest, InvalidCommand, and `bad_path`."""
    path = request.rel_url.raw_path
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError as error:  # another server would decode it differently
        raise endpoint.bad_path(f"the path is not UTF-8: {error}") from None
    try:
        unquote_to_bytes(request.rel_url.raw_query_string).decode()
    except UnicodeDecodeError as error:  # it would be replaced by other text
        raise BadRequest(f"the query is not UTF-8: {error}") from None
    parts = dict(request.match_info)
    if "table" in parts and FORWARDED not in request.headers:  # a forwarded one is resolved already
        parts["table"] = table_now(parts["table"])
    values = {param.name: _value(param, parts, request.query, request.headers) for param in endpoint.params}
    reading = parse_read_options(request.query) if endpoint.reads else OWNERS
    body = parsed(await request.read()) if endpoint.body is not None else None
    return Request(path, parts, request.query, _in_one_line(request.headers), values, body, reading)


def _in_one_line(headers: CIMultiDictProxy[str]) -> MultiMapping[str]:
    """Return the headers with the lists that pages read from several lines in one."""
    several = [name for name in CONDITIONS if len(headers.getall(name, ())) > 1]
    if not several:
        return headers
    joined = CIMultiDict(headers)
    for name in several:
        joined[name] = ", ".join(headers.getall(name))
    return joined


def _value(param: Param, parts: Mapping[str, str], query: MultiMapping[str], headers: MultiMapping[str]) -> Any:
    if param.place == "path":
        return param.parse(parts[param.name])
    texts = (headers if param.place == "header" else query).getall(param.name, [])
    return param.parse(",".join(texts if param.is_list else texts[:1])) if texts else param.default


def _response(reply: Reply) -> web.Response:
    if reply.body is None:
        return web.Response(status=reply.status, headers=reply.headers)
    if isinstance(reply.body, bytes):
        return web.Response(status=reply.status, body=reply.body, headers={**reply.headers, "Content-Type": reply.kind})
    text = json_text(reply.body)
    return web.Response(status=reply.status, text=text, content_type=reply.kind, headers=reply.headers)


async def _streamed(request: web.Request, stream: Stream) -> web.StreamResponse:
    response = web.StreamResponse(headers=stream.headers)
    try:
        await response.prepare(request)
        async for text in stream.texts:
            async with asyncio.timeout(WRITE_S):
                await response.write(text.encode())
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    finally:
        stream.close()
    return response


@web.middleware
async def as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors of pages and of the server itself into problem documents."""
    try:
        return await handler(request)
    except PipelineError as error:
        return _response(error_reply(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _response(problem(error.status, error.text or error.reason, type(error).__name__, allow))
    except Exception:
        log.exception("%s %s", request.method, request.rel_url)
        return _response(problem(500, "this is a bug of the worker; its log has more", "InternalError"))


class Ending:
    """Whether the worker is stopping: errors of pages then only say that another worker must be asked.

    Close it before all that pages need. Status and metrics need nothing of that, so they go on.
    """

    def __init__(self) -> None:
        self._has_begun = False

    async def close(self) -> None:
        """Note that the worker is stopping."""
        self._has_begun = True

    def middleware(self) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
        """Return the middleware; it goes behind `as_problems`."""

        @web.middleware
        async def unless_ending(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPException:
                raise
            except Exception as error:
                if not self._has_begun:
                    raise
                raise TableUnavailable(f"this worker is stopping; ask another: {error}") from error

        return unless_ending

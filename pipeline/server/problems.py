"""Answers of the HTTP side: JSON, and errors as problem documents (RFC 9457)."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

import faust
from aiohttp import web

from pipeline.errors import BadRequest, NotYet, PipelineError, TableUnavailable

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
RETRY = {"Retry-After": "1"}


def answer(
    status: int, body: Any, headers: dict[str, str] | None = None, kind: str = "application/json"
) -> web.Response:
    """A JSON answer."""
    return web.Response(status=status, text=json.dumps(body), content_type=kind, headers=headers)


def problem(status: int, detail: str, kind: str, headers: dict[str, str] | None = None, **more: Any) -> web.Response:
    """A problem document. `kind`: the name of the error; `more`: members of its own."""
    body = {
        "type": f"urn:kafka-pipeline:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "error": kind,
        **more,
    }
    return answer(status, body, headers, "application/problem+json")


@web.middleware
async def as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what a page raises, and what the server itself refuses, into problem documents."""
    try:
        return await handler(request)
    except PipelineError as error:
        headers = RETRY if error.http_status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        more = {"behind": error.behind} if isinstance(error, NotYet) else {}
        return problem(error.http_status, str(error), type(error).__name__, headers, **more)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return problem(error.status, error.text or error.reason, type(error).__name__, allow)
    except Exception:
        log.exception("%s %s", request.method, request.rel_url)
        return problem(500, "this is a bug of the worker; its log has more", "InternalError")


class Ending:
    """Whether the worker is on its way out: then what pages raise says only that somebody else is to be asked.

    To be closed before all that they answer with. Status and metrics, which need nothing of that, go on.
    """

    def __init__(self) -> None:
        self._has_begun = False

    async def close(self) -> None:
        """From now on."""
        self._has_begun = True

    def middleware(self) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
        """To stand behind `as_problems`."""

        @web.middleware
        async def unless_ending(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPException:
                raise
            except Exception as error:
                if not self._has_begun:
                    raise
                raise TableUnavailable(f"this worker is ending; ask another: {error}") from error

        return unless_ending


def key_in_path(request: web.Request) -> str:
    """The key in the path. BadRequest where it is not UTF-8, as nobody else would read the same from it."""
    try:
        unquote_to_bytes(request.rel_url.raw_path).decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"the path is not UTF-8: {error}") from None
    return request.match_info["key"]


def add_pages(app: faust.App, **pages: Mapping[str, Handler]) -> None:
    """Adds pages to a Faust app's web server: path -> handler, by method, `get` or `post`."""
    by_path: dict[str, dict[str, Handler]] = {}
    for method, handlers in pages.items():
        for path, handler in handlers.items():
            by_path.setdefault(path, {})[method] = handler
    for path, methods in by_path.items():
        view = type("Page", (faust.web.View,), {name: _method(handler) for name, handler in methods.items()})
        app.page(path, name=f"pipeline:{path}")(view)


def _method(handler: Handler) -> Callable[..., Awaitable[web.StreamResponse]]:
    async def method(_: Any, request: web.Request, **__: str) -> web.StreamResponse:
        return await handler(request)

    return method

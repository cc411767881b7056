"""The middleware that gives each request its clients, and carries the positions of what a browser has written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse

from pipeline.adapters.json.writing import json_text
from pipeline.client import Client
from pipeline.client.queries import QueryClient
from pipeline.client.wire.trace import continued
from pipeline.contrib.django.process import Process
from pipeline.contrib.own_writes.clients import own_commands, own_queries
from pipeline.contrib.own_writes.positions import COOKIE, COOKIE_S, HEADER, OwnWrites
from pipeline.contrib.own_writes.request import IDEMPOTENCY_KEY, ISSUED_AT, OwnRequest
from pipeline.contrib.problems import reply_to
from pipeline.engine.tracing.port import HEADER as TRACE
from pipeline.errors import InvalidToken, PipelineError

SETTING = "PIPELINE"
CARRIED = "_pipeline"  # the attribute of a request
MISSING = "settings.MIDDLEWARE lacks pipeline.contrib.django.PipelineMiddleware"


def commands(request: HttpRequest) -> Client:
    """Return the client for the commands of this request. Raises BrokerUnreachable while Kafka does not answer."""
    return own_commands(_process().opened().commands, _own(request))


def queries(request: HttpRequest) -> QueryClient:
    """Return the client for the reads of this request. Raises BrokerUnreachable while Kafka does not answer."""
    return own_queries(_process().opened().queries, _own(request))


class PipelineMiddleware:
    """Replies to errors of `pipeline.errors` as a worker does, and sets the cookie and the header with positions."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        _process()  # a wrong setting ends the start

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        cookie, header = request.COOKIES.get(COOKIE), request.headers.get(HEADER, "")
        cookies = [] if cookie is None else [cookie]
        try:
            carried = _Carried(OwnWrites(cookies, header))
        except InvalidToken as error:
            return _reply(error)
        setattr(request, CARRIED, carried)
        with continued(request.headers.get(TRACE)):
            response = self._get_response(request)
        if token := carried.writes.token:
            response[HEADER] = token
        if (value := carried.writes.cookie) is not None:
            response.set_cookie(
                COOKIE,
                value,
                max_age=COOKIE_S if value else 0,
                path=request.META.get("SCRIPT_NAME") or "/",
                secure=request.is_secure(),
                httponly=True,
                samesite="Lax",
            )
        return response

    def process_exception(self, _: HttpRequest, error: Exception) -> HttpResponse | None:
        """Return the reply to an error of `pipeline.errors`; None for any other."""
        return _reply(error) if isinstance(error, PipelineError) else None


@dataclass(slots=True)
class _Carried:
    """What a request has brought along. `own`: once a view has asked for a client."""

    writes: OwnWrites
    own: OwnRequest | None = None


def _own(request: HttpRequest) -> OwnRequest:
    carried: _Carried | None = getattr(request, CARRIED, None)
    if carried is None:
        raise ImproperlyConfigured(MISSING)
    if carried.own is None:
        key, issued = request.headers.get(IDEMPOTENCY_KEY, ""), request.headers.get(ISSUED_AT, "")
        carried.own = OwnRequest(_process().opened().logs, carried.writes, key, issued)
    return carried.own


def _reply(error: PipelineError) -> HttpResponse:
    reply = reply_to(error)
    return HttpResponse(json_text(reply.body), reply.kind, reply.status, headers={**reply.headers})


@cache
def _process() -> Process:
    try:
        return Process(**getattr(settings, SETTING, {}))
    except TypeError as error:
        raise ImproperlyConfigured(f"settings.{SETTING}: {error}") from None

"""Values of a page: its declaration, the request it receives, and its reply. They know no web server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, NamedTuple

from pipeline.client.wire.paths import path_part
from pipeline.client.wire.read_options import ReadOptions
from pipeline.errors import BadRequest, PipelineError
from pipeline.server.schemas.parts import Schema
from pipeline.server.schemas.subjects import Subject
from pipeline.topology import Topology

Json = dict[str, Any]
OWNERS = ReadOptions()  # the owner's rows


class At(Enum):
    """Which worker serves a request."""

    KEY = auto()  # the owner of the partition of the path's key
    PARTITION = auto()  # the owner of the partition that the page names
    ALL = auto()  # any worker, from the replies of the owners of all partitions
    ANY = auto()  # any worker


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter. `place`: query, header or path. `parse` raises BadRequest. `is_list`: may be repeated.

    `schema`: as JSON, or a function of the endpoint's subject that returns it, or None if the subject has no such
    parameter. `is_hidden`: left out of the OpenAPI document: for requests between workers, or not expressible there.
    """

    name: str
    schema: Json | Callable[[Any], Json | None] = field(default_factory=lambda: {"type": "string"})
    description: str = ""
    parse: Callable[[str], Any] = str
    default: Any = None
    place: str = "query"
    is_list: bool = False
    is_hidden: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    """An endpoint in the OpenAPI document. `of`: its subjects, with one operation each; see server/schemas/subjects.

    `answers` and `body`: make schemas from a subject. `errors`: each error status, and when it occurs.
    """

    summary: str
    operation: str
    of: Callable[[Topology], Iterator[Subject]]
    answers: Callable[[Any], Json]
    errors: Mapping[int, str] = field(default_factory=dict)
    body: Callable[[Any], Schema] | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """The JSON body of a request. `what`: its name in errors. `takes_any_type`: accept any Content-Type."""

    what: str
    takes_any_type: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """The declaration of one page. `path`: as the server's router takes it; its first part names the key's table.

    `reads`: takes the parameters of ReadOptions. `bad_path`: the error for a path that is not UTF-8.
    """

    method: str
    path: str
    at: At = At.ANY
    params: tuple[Param, ...] = ()
    body: Body | None = None
    reads: bool = False
    bad_path: type[PipelineError] = BadRequest
    described: Described | None = None

    @property
    def names(self) -> list[str]:
        """The names of the path's parts."""
        return re.findall(r"{(\w+)", self.path)

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it."""
        return re.sub(r"{(\w+)[^}]*}", r"{\1}", self.path)

    def url(self, **parts: str) -> str:
        """Return the path with these parts, percent-encoded."""
        return self.template.format(**{name: path_part(part) for name, part in parts.items()})


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a page. `path`: percent-encoded; `parts`: those of the path, decoded; `values`: of its parameters.

    `reading`: how to read the table. `partition`: the key's, if the endpoint is served by its owner.
    """

    path: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    reading: ReadOptions = OWNERS
    partition: int = -1

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


class Reply(NamedTuple):
    """A page's reply. `body`: a value for JSON, or bytes as they are; None for 304."""

    status: int
    body: Any
    headers: Mapping[str, str] = {}
    kind: str = "application/json"


class Stream(NamedTuple):
    """A reply in parts, until `texts` ends. `close` is called at the end, also if the reader has gone."""

    texts: AsyncIterator[str]
    headers: Mapping[str, str]
    close: Callable[[], None]


class Place(NamedTuple):
    """A partition of a table. `folds`: the service and topic that identify its owner, if the table does not."""

    table: str
    partition: int
    folds: tuple[str, str] | None = None

    @property
    def what(self) -> str:
        """The partition's name in messages."""
        return f"partition {self.partition} of {self.folds[1] if self.folds else self.table!r}"


class Page(NamedTuple):
    """The functions behind an endpoint. `check`: raises what is wrong before any worker is asked.

    `place`: the partition whose owner serves the request, if it is not the key's.
    """

    answer: Callable[[Request], Awaitable[Reply | Stream]]
    check: Callable[[Request], object] | None = None
    place: Callable[[Request], Awaitable[Place]] | None = None


Pages = Mapping[Endpoint, Page]


def integer(name: str, text: str, least: int, most: int) -> int:
    """Parse an integer from `least` to `most`. Raises BadRequest."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20 and least <= int(text) <= most):
        raise BadRequest(f"{name}={text!r:.100} is not a number from {least} to {most}")
    return int(text)


def number(
    name: str,
    least: int,
    most: int,
    default: int | None = None,
    description: str = "",
    *,
    place: str = "query",
    is_hidden: bool = False,
) -> Param:
    """Declare an integer parameter."""
    schema: Json = {"type": "integer", "minimum": least, "maximum": most}
    schema |= {} if default is None else {"default": default}
    return Param(
        name, schema, description, lambda text: integer(name, text, least, most), default, place, is_hidden=is_hidden
    )


def problem(status: int, detail: str, kind: str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
    """Return a problem document (RFC 9457). `kind`: the name of the error; `more`: additional members."""
    body = {
        "type": f"urn:kafka-pipeline:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "error": kind,
        **more,
    }
    return Reply(status, body, headers or {}, "application/problem+json")

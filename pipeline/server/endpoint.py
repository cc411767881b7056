"""What a page is, as values: its declaration, the request it gets, and the reply it gives. No web server is in them."""

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
from pipeline.server.schemas.subjects import Subject
from pipeline.topology import Topology

Json = dict[str, Any]
OWNERS = ReadOptions()  # as the owner has it


class At(Enum):
    """Where a request is answered."""

    KEY = auto()  # the owner of the partition that the key of the path is in
    PARTITION = auto()  # the owner of the partition that the page names
    ALL = auto()  # here, from what the owners of all partitions say
    ANY = auto()  # here


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter. `place`: query, header or path. `parse` raises BadRequest. `is_list`: may come several times.

    `schema`: in JSON, or made from what the endpoint is about; None: that has no such parameter. `is_hidden`: for
    workers among themselves, or for what the OpenAPI document cannot say.
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
    """An endpoint in the OpenAPI document. `of`: what it is about, an operation each; see server/schemas/subjects.

    `answers` and `body`: made from what it is about. `errors`: when each status is answered.
    """

    summary: str
    operation: str
    of: Callable[[Topology], Iterator[Subject]]
    answers: Callable[[Any], Json]
    errors: Mapping[int, str] = field(default_factory=dict)
    body: Callable[[Any], Json] | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """The JSON that a request brings. `what`: for who sends no JSON. `takes_any_type`: whatever Content-Type says."""

    what: str
    takes_any_type: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """One declared page. `path`: as the server's router takes it; its first part names the table of a key.

    `reads`: it takes the parameters of ReadOptions. `bad_path`: what it raises where the path is not UTF-8.
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
        """The names of the parts of its path."""
        return re.findall(r"{(\w+)", self.path)

    @property
    def template(self) -> str:
        """Its path as OpenAPI writes it."""
        return re.sub(r"{(\w+)[^}]*}", r"{\1}", self.path)

    def url(self, **parts: str) -> str:
        """Its path with these parts, percent-encoded."""
        return self.template.format(**{name: path_part(part) for name, part in parts.items()})


@dataclass(frozen=True, slots=True)
class Request:
    """What a page is asked. `path`: as it came, percent-encoded; `parts`: of it, decoded; `values`: of its parameters.

    `reading`: how a table is to be read. `partition`: of the key, where the endpoint is answered by its owner.
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
    """What a page answers. `body`: for JSON, or bytes as they are; None with 304."""

    status: int
    body: Any
    headers: Mapping[str, str] = {}
    kind: str = "application/json"


class Stream(NamedTuple):
    """An answer that goes on: texts, until there are no more. `close`: when nobody listens any more, too."""

    texts: AsyncIterator[str]
    headers: Mapping[str, str]
    close: Callable[[], None]


class Place(NamedTuple):
    """A partition of a table. `folds`: the service and topic by which its owner is found, if not by the table."""

    table: str
    partition: int
    folds: tuple[str, str] | None = None

    @property
    def what(self) -> str:
        """It, for people."""
        return f"partition {self.partition} of {self.folds[1] if self.folds else self.table!r}"


class Page(NamedTuple):
    """What answers an endpoint. `check`: what it raises before anybody is asked.

    `place`: the partition, for what is answered by the owner of one that is not a key's.
    """

    answer: Callable[[Request], Awaitable[Reply | Stream]]
    check: Callable[[Request], object] | None = None
    place: Callable[[Request], Awaitable[Place]] | None = None


Pages = Mapping[Endpoint, Page]


def integer(name: str, text: str, least: int, most: int) -> int:
    """A number from `least` to `most`. Raises BadRequest."""
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
    """A parameter that is an integer."""
    schema: Json = {"type": "integer", "minimum": least, "maximum": most}
    schema |= {} if default is None else {"default": default}
    return Param(
        name,
        schema,
        description,
        lambda text: integer(name, text, least, most),
        default,
        place,
        is_hidden=is_hidden,
    )


def problem(status: int, detail: str, kind: str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
    """A problem document (RFC 9457). `kind`: the name of the error; `more`: members of its own."""
    body = {
        "type": f"urn:kafka-pipeline:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "error": kind,
        **more,
    }
    return Reply(status, body, headers or {}, "application/problem+json")

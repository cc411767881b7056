"""The tracer as a port, and the one header by which a trace goes on from record to record. Nothing here does I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from types import TracebackType
from typing import Protocol, Self

HEADER = "traceparent"  # of a record and of an HTTP request, as W3C's Trace Context has it
_FORM = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")
SAMPLED = 1  # the bit of a header's flags
Value = str | int | bool
Attributes = Mapping[str, Value]


class Kind(Enum):
    """What a span is to the one before it, as OpenTelemetry has it."""

    INTERNAL = "internal"
    SERVER = "server"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span(Protocol):
    """One thing that takes time. As a context manager it is the current one of its thread or task; that ends nothing.

    `header`: the traceparent of what it causes; None if it is not sampled. Safe to use from any thread.
    """

    header: bytes | None

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def set(self, attributes: Attributes) -> None: ...
    def event(self, name: str, attributes: Attributes) -> None: ...
    def fail(self, why: str, kind: str) -> None:
        """Note that it has failed. `kind`: of the error, from a small set."""

    def end(self, at_ns: int | None = None) -> None:
        """End it, now or at that time, and hand it to the exporter. It cannot be changed any more."""


class Tracer(Protocol):
    """Makes spans. Its calls neither block nor raise."""

    def now_ns(self) -> int:
        """Return nanoseconds since the epoch, by the clock of its spans."""

    def is_within(self) -> bool:
        """Whether this thread or task has a current span."""

    def start(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        parent: bytes | None = None,
        links: Sequence[bytes] = (),
        at_ns: int | None = None,
    ) -> Span:
        """Begin a span, now or at that time.

        `parent`: a traceparent; None: the current span, if there is one. `links`: traceparents of other spans.
        """


class Tracers(Protocol):
    """The tracers of a process."""

    def of(self, service: str) -> Tracer:
        """Return the tracer of a service."""


def traceparent(value: bytes | str | None) -> bytes | None:
    """Return a header's value if it is a traceparent, sampled or not."""
    data = value.encode(errors="replace") if isinstance(value, str) else value or b""
    return data if _FORM.fullmatch(data) else None


def sampled(value: bytes | str | None) -> bytes | None:
    """Return a header's value if it is a traceparent of a trace that is sampled."""
    data = traceparent(value)
    return data if data is not None and int(data[53:55], 16) & SAMPLED else None


def sampled_of(headers: Iterable[tuple[str, bytes | str | None]] | None) -> bytes | None:
    """Return the traceparent among a record's headers, if its trace is sampled."""
    return next((found for name, value in headers or () if name == HEADER and (found := sampled(value))), None)

"""The HTTP status of each error."""

from __future__ import annotations

from pipeline.errors import (
    BadRequest,
    EncodeError,
    FoldError,
    ForeignToken,
    HistoryIncomplete,
    InvalidCommand,
    InvalidMoment,
    InvalidToken,
    NoDeadlines,
    NoHistory,
    NoSuchConsistency,
    NotParked,
    NotYet,
    PipelineError,
    TableUnavailable,
    UnknownAggregate,
    UnknownKey,
    UnknownTable,
)
from pipeline.server.owner.forward import RETRY

STATUS: tuple[tuple[type[PipelineError], int, dict[str, str]], ...] = (
    (UnknownTable, 404, {}),
    (UnknownAggregate, 404, {}),
    (UnknownKey, 404, {}),
    (NoHistory, 404, {}),
    (NoDeadlines, 404, {}),
    (NotParked, 404, {}),
    (BadRequest, 400, {}),
    (InvalidMoment, 400, {}),
    (InvalidToken, 400, {}),
    (NoSuchConsistency, 400, {}),
    (ForeignToken, 422, {}),
    (NotYet, 504, {}),
    (HistoryIncomplete, 410, {}),
    (FoldError, 500, {}),
    (InvalidCommand, 422, {}),
    (EncodeError, 422, {}),
    (TableUnavailable, 503, RETRY),
    (PipelineError, 503, RETRY),  # the broker does not answer, the queue is full, …
)


def status_of(error: PipelineError) -> tuple[int, dict[str, str]]:
    """The status of an error, and the headers that go with it."""
    return next((status, headers) for kind, status, headers in STATUS if isinstance(error, kind))

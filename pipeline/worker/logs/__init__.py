"""What processes that run for long say on stderr: one line for each thing that happens, for people or as JSON."""

from __future__ import annotations

import logging
from typing import Literal

from pipeline.adapters.client_config import secrets_of_settings
from pipeline.worker.logs.lines import JsonLines, TextLines
from pipeline.worker.logs.redaction import hide
from pipeline.worker.logs.storms import BoundedStream

__all__ = ["LogFormat", "hide", "log_to_stderr"]

LogFormat = Literal["text", "json"]


def _worth_reading(record: logging.LogRecord) -> bool:
    """Return False for the start and stop of each of Faust's own parts, which it marks with [^.

    That spans cannot be exported is no error here: all goes on without them.
    """
    if record.levelno > logging.WARNING and record.name.startswith("opentelemetry."):
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return record.levelno >= logging.WARNING or not str(record.msg).startswith("[^")


def log_to_stderr(level: str, form: LogFormat = "text") -> None:
    """Log to stderr, for commands that run for long. The settings of Kafka clients must be known by now."""
    hide(*secrets_of_settings())
    handler = BoundedStream()
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    handler.addFilter(_worth_reading)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)

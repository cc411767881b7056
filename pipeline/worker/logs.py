"""What processes that run for long say on stderr: plain lines with time and level."""

from __future__ import annotations

import logging

from pipeline.client.wire.plain import plain


class _Plain(logging.Formatter):
    """Lines whose users' text cannot move a cursor."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record), keep="\n\t")


def _worth_reading(record: logging.LogRecord) -> bool:
    """Return False for the start and stop of each of Faust's own parts, which it marks with [^."""
    return record.levelno >= logging.WARNING or not str(record.msg).startswith("[^")


def log_to_stderr(level: str) -> None:
    """Log plain lines with time and level to stderr, for commands that run for long."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    handler.addFilter(_worth_reading)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)

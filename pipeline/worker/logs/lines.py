"""The forms of a log line: for people, and as JSON. Fields of a record that `FIELDS` names go along."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

from pipeline.client.wire.plain import plain, plain_json
from pipeline.worker.logs.redaction import without_secrets

# What a line may say beside its text, as `extra` of a logging call.
IDS = ("correlation_id", "command_id", "trace_id", "span_id")
PLACES = ("service", "topic", "partition", "offset", "key", "worker")
FIELDS = ("event", *PLACES, *IDS)
MESSAGE_CHARACTERS_MAX = 8_000
EXCEPTION_CHARACTERS_MAX = 16_000


def _fields(record: logging.LogRecord, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name in names:
        value = getattr(record, name, None)
        if value is not None:
            yield name, value


class _Lines(logging.Formatter):
    """What both forms share."""

    def message(self, record: logging.LogRecord) -> str:
        """Return the text of a record, within bounds and without secrets."""
        try:
            text = record.getMessage()
        except Exception as error:  # a line is not lost because its arguments do not fit
            text = f"{record.msg} {record.args!r} ({type(error).__name__})"
        left_out = getattr(record, "left_out", 0)
        if left_out:
            text += f" (and {left_out} more like it, left out)"
        return without_secrets(text[:MESSAGE_CHARACTERS_MAX])

    def trace(self, record: logging.LogRecord) -> str:
        """Return the traceback of a record; empty if it has none."""
        if record.exc_info and record.exc_info[0] is not None:
            return without_secrets(self.formatException(record.exc_info)[-EXCEPTION_CHARACTERS_MAX:])
        return ""


class TextLines(_Lines):
    """Lines for people: time, level, text, and the ids that are known. Users' text cannot move a cursor."""

    def format(self, record: logging.LogRecord) -> str:
        time_of_day = time.strftime("%H:%M:%S", time.localtime(record.created))
        ids = " ".join(f"{name}={value}" for name, value in _fields(record, IDS))
        line = f"{time_of_day} {record.levelname:<7} {self.message(record)}" + (
            f" [{without_secrets(ids)}]" if ids else ""
        )
        trace = self.trace(record)
        return plain(line + (f"\n{trace}" if trace else ""), keep="\n\t")


class JsonLines(_Lines):
    """One JSON object a line, with the fields of docs/howto/logs.md."""

    for_machines = True

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": self.message(record),
            "pid": record.process,
        }
        for name, value in _fields(record, FIELDS):
            line[name] = value if isinstance(value, int) else without_secrets(str(value))
        if left_out := getattr(record, "left_out", 0):
            line["left_out"] = left_out
        if trace := self.trace(record):
            assert record.exc_info is not None
            assert record.exc_info[0] is not None
            line |= {"error": record.exc_info[0].__name__, "traceback": trace}
        return plain_json(json.dumps(line, ensure_ascii=False))

"""Notices on a service's parked topic: what has become of a record that could not be folded, and who has done what."""

from __future__ import annotations

import sysconfig
import traceback
from base64 import b64encode
from contextlib import suppress
from typing import NamedTuple

from pipeline.engine.ports import Producer
from pipeline.engine.state.parked_table import ParkedRecord
from pipeline.engine.stats import LaneStats
from pipeline.engine.steps.step import DecidedAt

CAUSE_BYTES_MAX = 2000  # of the explanation of a parked record
PAUSED, RESUMED = "paused", "resumed"  # notices about the service, and not about a record
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
TRACEBACK_CHARACTERS_MAX = 4000  # its end


class Audit(NamedTuple):
    """Who has a parked record redriven or discarded, and why."""

    by: str
    why: str


class Notices:
    """Writes them to `topic`. `queue`: name of the queue in which the records wait."""

    def __init__(self, producer: Producer, stats: LaneStats, topic: str, queue: str) -> None:
        self._producer, self._stats, self._topic, self._queue = producer, stats, topic, queue

    def parked(
        self,
        key: bytes | None,
        entry: ParkedRecord,
        audit: Audit | None = None,
        placed: DecidedAt | None = None,
        beside: int | None = None,
    ) -> None:
        """A record waits: a copy with its cause. `audit`: who has had it folded, in vain. `beside`: see Parking."""
        self._stats.parked += 1
        headers: list[tuple[str, str | bytes | None]] = [(name, data) for name, data in entry.headers]
        waits = {"queue": f"{self._queue}/{entry.partition}/{entry.offset}"}
        about = self._about("parked", entry, audit, placed)
        about |= {"cause": entry.cause, "traceback": entry.traceback, **waits}
        if beside is not None:
            about["beside"] = beside
        self._send(key, entry, entry.value, headers, about)

    def over(self, action: str, key: bytes, entry: ParkedRecord, audit: Audit, placed: DecidedAt) -> None:
        """A record was `redriven` or `discarded`."""
        self._send(key, entry, None, [], self._about(action, entry, audit, placed))

    def of_service(self, action: str, audit: Audit) -> None:
        """A service is paused, or one that was held or paused goes on."""
        about = {"action": action, **audit._asdict()}
        self._producer.park(
            self._topic, None, None, [(f"parked-{name}", text.encode()) for name, text in about.items()]
        )

    def _about(
        self, action: str, entry: ParkedRecord, audit: Audit | None, placed: DecidedAt | None
    ) -> dict[str, object]:
        about: dict[str, object] = {
            "action": action,
            "source-topic": entry.topic,
            "source-partition": entry.partition,
            "source-offset": entry.offset,
            "done": ",".join(entry.done),
        }
        if audit is not None and placed is not None:
            about |= {"at": placed.offset, "at-ms": placed.time_ms, **audit._asdict()}
        return about

    def _send(
        self,
        key: bytes | None,
        entry: ParkedRecord,
        value: bytes | None,
        headers: list[tuple[str, str | bytes | None]],
        about: dict[str, object],
    ) -> None:
        headers += [(f"parked-{name}", str(text).encode()) for name, text in about.items()]
        if entry.bare:
            headers.append(("parked-without-value", b"too large"))
        self._producer.park(self._topic, key, value, headers)


def describe_error(error: BaseException) -> tuple[str, str]:
    """An exception's class and text, and the end of its traceback."""
    try:
        text = str(error)
    except BaseException as another:  # of the author's own class, whose __str__ raises
        text = f"<its text raises {type(another).__name__}>"
    cause = f"{type(error).__name__}: {text}".encode(errors="replace")[:CAUSE_BYTES_MAX].decode(errors="ignore")
    # A part is a frame or the text: that of megabytes is not to push the frames out.
    parts = [part[:CAUSE_BYTES_MAX] for part in traceback.format_exception(error)]
    trace = "".join(parts).encode(errors="replace").decode()
    return cause, trace[-TRACEBACK_CHARACTERS_MAX:]


def raised_at(error: BaseException) -> str:
    """Return file and line of the author's code that an exception comes out of; empty if it comes out of none."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        module = str(frame.f_globals.get("__name__"))
        if not (f"{module}.".startswith("pipeline.") or file.startswith(("<", *LIBRARIES))):
            place = f"{file}:{line}"
    return place


def key_text(key: bytes) -> str:
    """Return a key as `pipeline parked --key` takes it: in base64 if it is not text of one line."""
    with suppress(UnicodeDecodeError):
        if (text := key.decode()).isprintable():
            return text
    return b64encode(key).decode()

"""Notices: what stands on a service's parked topic, by the record that it is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pipeline.engine.ports import TP
from pipeline.model import TopicKind
from pipeline.verify.sources.history import History, Kept

REFUSED = "RecordRefused:"  # how the cause begins where the record was sound, but the broker refused what came of it
PARKED, REDRIVEN, DISCARDED = "parked", "redriven", "discarded"
SENT = "sent"  # to the partition where its key belongs: nothing has folded it here
STOPPED, RESUMED = "paused", "resumed"  # the service, and no record


class Act(NamedTuple):
    """What a notice says.

    `at`, `at_ms`: of what was done about a queue, the last offset that was folded before it, and the latest time of a
    command by then; None for a record that was parked when it came. `done`: the nodes that have folded it by then.
    """

    action: str
    key: bytes
    tp: TP
    offset: int
    at: int | None
    at_ms: int
    done: tuple[str, ...] = ()
    cause: str = ""
    by: str = ""
    why: str = ""
    beside: int | None = None  # where the task was, if a new node was built that had yet to fold what lies before
    bare: bool = False  # whether the value could not be queued: the record can only be discarded, without a reply


def act_of(key: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> Act | None:
    """What a notice says; None if its headers do not say."""
    # Of a header that is there twice the last: the record's own come first.
    told = {name: (value or b"").decode(errors="replace") for name, value in headers}
    try:
        return Act(
            told["parked-action"],
            key or b"",
            TP(told["parked-source-topic"], int(told["parked-source-partition"])),
            int(told["parked-source-offset"]),
            int(told["parked-at"]) if "parked-at" in told else None,
            int(told.get("parked-at-ms", "0")),
            tuple(name for name in told["parked-done"].split(",") if name),
            told.get("parked-cause", ""),
            told.get("parked-by", ""),
            told.get("parked-why", ""),
            int(told["parked-beside"]) if "parked-beside" in told else None,
            "parked-without-value" in told,
        )
    except (KeyError, ValueError):
        return None


def done_to_service(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """Return what a notice says was done to the whole service; None if it is about a record."""
    told = dict(headers)
    action = (told.get("parked-action") or b"").decode(errors="replace")
    return action if action in (STOPPED, RESUMED) and "parked-source-topic" not in told else None


def acts_on(history: History, service: str) -> dict[TP, list[Act]]:
    """What the service's notices say, by source partition, in the order in which it was done to each key."""
    return acts_in(history.kept(TopicKind.PARKED.topic(service)))


def acts_in(notices: Kept) -> dict[TP, list[Act]]:
    """The acts that notices report, by source partition."""
    acts = (act_of(notice.key, notice.headers) for notice in notices.entries)
    return by_source(act for act in acts if act is not None)


def by_source(acts: Iterable[Act]) -> dict[TP, list[Act]]:
    """Sort acts by the partition of the record that they are about."""
    found: dict[TP, list[Act]] = {}
    for act in acts:
        found.setdefault(act.tp, []).append(act)
    return found


def is_refusal(act: Act) -> bool:
    """Whether the record was sound, but what came of it more than the broker takes."""
    return act.cause.startswith(REFUSED)

"""Notices: what stands on a service's parked topic, by the record that it is about."""

from __future__ import annotations

from pipeline.model import TopicKind
from pipeline.runtime.ports import TP
from pipeline.verify.history import Entry, History

REFUSED = b"RecordRefused:"  # how the cause begins where the record was sound, but the broker refused what came of it


def source_of(notice: Entry) -> tuple[TP, int] | None:
    """The partition and offset that a notice is about; None where its headers do not say."""
    headers = dict(notice.headers)  # of a header that is there twice, the last
    try:
        topic, number, offset = (
            (headers[f"parked-source-{part}"] or b"").decode() for part in ("topic", "partition", "offset")
        )
        return TP(topic, int(number)), int(offset)
    except (KeyError, ValueError):
        return None


def is_refusal(notice: Entry) -> bool:
    """Whether the record was sound, but what came of it more than the broker takes."""
    return (dict(notice.headers).get("parked-cause") or b"").startswith(REFUSED)


def refused(history: History, service: str, tp: TP) -> set[int]:
    """Offsets of the records of `tp` that the service has parked because of what came of them: they had no effect."""
    parked = TopicKind.PARKED.topic(service)
    found = set()
    for each in (TP(parked, n) for n in range(history.partitions(parked))):
        for notice in history.records(each):
            if is_refusal(notice) and (source := source_of(notice)) and source[0] == tp:
                found.add(source[1])
    return found

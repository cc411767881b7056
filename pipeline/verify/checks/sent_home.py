"""Misplaced records that were redriven: each must stand, as it was, in the partition where its key belongs.

In memory: the misplaced records of one topic that were sent.
"""

from __future__ import annotations

from collections import Counter

from pipeline.engine.ports import TP
from pipeline.model.records.partitioning import partition_of
from pipeline.verify.replay.notices import SENT, Act
from pipeline.verify.report import Finding, Report
from pipeline.verify.sources.history import Entry, History


def judge_sent(history: History, service: str, topic: str, acts: dict[TP, list[Act]], report: Report) -> None:
    """Report `missing_sent`. `acts` were read before any record."""
    partitions = history.partitions(topic)
    sent: dict[TP, list[Entry]] = {}  # by the partition where they have to be
    for tp in (TP(topic, n) for n in range(partitions)):
        if offsets := {act.offset for act in acts.get(tp, ()) if act.action == SENT}:
            for entry in history.records(tp):
                if entry.offset in offsets:
                    sent.setdefault(TP(topic, partition_of(entry.key or b"", partitions)), []).append(entry)
    for home, entries in sent.items():
        report.checked["sent to their partition"] += len(entries)
        if history.low(home):  # some may be gone
            continue
        keys = {entry.key for entry in entries}
        there = Counter((entry.key, entry.value) for entry in history.records(home) if entry.key in keys)
        for entry in entries:
            if not there[entry.key, entry.value]:
                key = (entry.key or b"").decode(errors="replace")
                report.add(
                    Finding("missing_sent", service, *home, key, None, "a record sent there by a redrive", "none")
                )
            there[entry.key, entry.value] -= 1

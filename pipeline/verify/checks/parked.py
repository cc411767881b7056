"""Parked records and offsets: what could not be read was parked exactly once; the service stands within its logs.

In memory: the parked records of one service.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord
from pipeline.model import Service, TopicKind
from pipeline.verify.checks.parked_checks import Before, Rows, compare_queue, replayed, rows_of
from pipeline.verify.checks.sent_home import judge_sent
from pipeline.verify.replay.notices import DISCARDED, PARKED, REDRIVEN, Act, act_of, acts_on, done_to_service
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.sources.decode import Decoder, command_decoder, event_decoder
from pipeline.verify.sources.history import Entry, History, Stored

WITHOUT = "parked-without-value"  # the header of a notice that had no room for the value
MENDED = "parked, readable since, and settled"  # among what is counted
Aside = dict[TP, dict[int, list[tuple[TP, Entry]]]]  # source partition -> source offset -> where its notices stand


def source_topics(service: Service, registry: Registry) -> dict[str, Decoder]:
    """The topics that the service folds as a group, and what it expects there."""
    found: dict[str, Decoder] = {}
    for aggregate in service.owned:
        found[TopicKind.COMMAND.topic(aggregate.name)] = command_decoder(registry, aggregate)
    followed = [reaction.source for reaction in service.reactions]
    for projection in service.projections:
        followed += projection.sources
        if projection.route is not None:
            topic = TopicKind.BY_KEY.topic(projection.name)
            found[topic] = Decoder(registry, topic, projection.by_key)
    for source in followed:
        found[source.topic] = event_decoder(registry, source, follows=True)
    return found


def _waited(rows: Rows, acts: list[Act]) -> set[int]:
    """Return the offsets of the records that had no notice when they came, as they waited behind others."""
    first: dict[bytes, int] = {}
    for key, offset in (*rows, *((act.key, act.offset) for act in acts)):
        first[key] = min(offset, first.get(key, offset))
    waiting = {offset for key, offset in rows if first[key] < offset}
    return waiting | {act.offset for act in acts if act.at is not None}


def key_of(entry: Entry) -> str | None:
    """The key for a finding, whatever it is made of."""
    return None if entry.key is None else entry.key.decode(errors="replace")


def _content(entry: Entry, *, without: bool) -> dict[str, str]:
    """What a notice holds of a record. `without`: its value had no room there."""
    return {"key": repr(entry.key)} | ({} if without else {"value": repr(entry.value)})


@dataclass(slots=True)
class ServiceCheck:
    """Judges one service's offsets and its parked topic, over all its source topics."""

    service: str
    source_topics: dict[str, Decoder]
    parked: str = field(init=False)

    def __post_init__(self) -> None:
        self.parked = TopicKind.PARKED.topic(self.service)

    def __call__(self, history: History, _: int, report: Report) -> None:
        """Read notices before the records that they are about."""
        stored = history.stored(self.service)
        before = acts_on(history, self.service)
        sources = [TP(topic, n) for topic in self.source_topics for n in range(history.partitions(topic))]
        queued = {tp: rows_of(history, self.service, tp) for tp in sources}
        aside, since = self._aside(history, report)
        acts = acts_on(history, self.service)
        report.lag[self.service] = 0
        for topic, decoder in self.source_topics.items():
            judge_sent(history, self.service, topic, acts, report)
            for tp in (TP(topic, n) for n in range(history.partitions(topic))):
                self._judge_offset(history, tp, report)
                if stored is not None and tp in stored:
                    self._judge_store(history, tp, stored[tp], report)
                self._judge(history, tp, decoder, aside.pop(tp, {}), since, queued[tp], acts.get(tp, []), report)
                if not topic.endswith(f".{TopicKind.COMMAND.value}"):
                    self._judge_queue(history, tp, decoder, before, queued[tp], report)
        for notices in aside.values():
            for where, entry in (each[0] for each in notices.values()):
                self._find(report, "needless", where, entry, "a topic that the service folds", "another")

    def _find(self, report: Report, kind: str, tp: TP, entry: Entry, expected: str, found: str) -> None:
        report.add(Finding(f"{kind}_parked", self.service, *tp, key_of(entry), entry.offset, expected, found))

    def _aside(self, history: History, report: Report) -> tuple[Aside, float]:
        """The notices by what they are about, and since when all of them are still there."""
        aside: Aside = {}
        since = -math.inf
        for tp in (TP(self.parked, n) for n in range(history.partitions(self.parked))):
            first_ms: float = math.inf
            for entry in history.records(tp):
                first_ms = min(first_ms, entry.time_ms)
                if (done := done_to_service(entry.headers)) is not None:
                    report.checked[done] += 1
                    continue
                act = act_of(entry.key, entry.headers)
                if act is None:
                    self._find(report, "unreadable", tp, entry, "headers that say what was done, and to what", "none")
                    continue
                report.checked[act.action] += 1
                if act.action == PARKED and act.at is None:
                    aside.setdefault(act.tp, {}).setdefault(act.offset, []).append((tp, entry))
            if history.low(tp):
                since = max(since, first_ms)
        return aside, since

    def _judge_queue(
        self, history: History, tp: TP, decoder: Decoder, before: Before, rows: Rows, report: Report
    ) -> None:
        """The queue of a topic that brings no commands: of these only the aggregate knows which were answered."""
        queues = replayed(history, self.service, tp, decoder, report)
        compare_queue(self.service, tp, queues, rows, before, history, report)

    def _judge_offset(self, history: History, tp: TP, report: Report) -> None:
        """The committed offset lies within the log, and nothing was deleted before it was folded."""
        low, end, committed = history.low(tp), history.end(tp), history.bound(self.service, tp)
        report.lag[self.service] += max(0, end - (low if committed is None else committed))
        if not low <= (committed or 0) <= end:
            found = "none" if committed is None else str(committed)
            report.add(Finding("offset", self.service, *tp, None, committed, f"{low} to {end}", found))

    def _judge_store(self, history: History, tp: TP, stored: Stored, report: Report) -> None:
        """The local store was asked before the offsets: it holds what was committed at the bound, and nothing since."""
        bound, committed = history.bound(self.service, tp), history.committed(self.service, tp)
        report.checked["stores"] += 1
        if (stored.source or 0) < (bound or 0):
            report.add(
                Finding("behind_table", self.service, *tp, None, stored.source, f"at least {bound}", str(stored.source))
            )
        if (stored.source or 0) > (committed or 0):
            report.add(
                Finding(
                    "ahead_table", self.service, *tp, None, stored.source, f"at most {committed}", str(stored.source)
                )
            )
        for changelog, position in stored.changelogs.items():
            end = history.end(TP(changelog, tp.partition))
            if (position or 0) > end:
                where = (self.service, changelog, tp.partition, None, position)
                report.add(Finding("ahead_table", *where, f"at most {end}", str(position)))

    def _judge(
        self,
        history: History,
        tp: TP,
        decoder: Decoder,
        notices: dict[int, list[tuple[TP, Entry]]],
        since: float,
        queued: Rows,
        acts: list[Act],
        report: Report,
    ) -> None:
        """Records that have waited behind others have no notice until their turn comes."""
        waited = _waited(queued, acts)
        settled = {act.offset for act in acts if act.action in (REDRIVEN, DISCARDED)}
        bound, end = history.bound(self.service, tp) or 0, history.committed(self.service, tp) or 0
        for where, entry in (again for _, *more in notices.values() for again in more):
            self._find(report, "duplicate", where, entry, "once", "again")
        for entry in history.records(tp):
            if entry.offset >= end:
                break
            try:
                decoder.read(entry)
                unreadable = ""
            except UndecodableRecord as error:
                unreadable = str(error)
            found = notices.pop(entry.offset, None)
            if found is None:
                if unreadable and entry.offset < bound and entry.time_ms > since and entry.offset not in waited:
                    self._find(report, "missing", tp, entry, f"parked, as {short(unreadable)}", "not parked")
                continue
            where, notice = found[0]
            act = act_of(notice.key, notice.headers)
            assert act is not None
            readable = not unreadable and act.cause.startswith(UndecodableRecord.__name__)
            if readable and entry.offset not in settled:
                found_now = "it can be read now; if other code has parked it: pipeline parked redrive"
                self._find(report, "needless", where, notice, "a record that cannot be read", found_now)
            else:
                without = WITHOUT in dict(notice.headers)
                expected, there = (_content(each, without=without) for each in (entry, notice))
                if expected != there:
                    wrong = Finding("wrong_parked", self.service, *where, key_of(notice), notice.offset, "", "")
                    report.add(wrong.of_values(expected, there))
            report.checked[MENDED] += readable and entry.offset in settled
        low = history.low(tp)
        for offset, left in notices.items():
            if offset >= low:  # a record that retention has deleted cannot be looked at again
                where, notice = left[0]
                self._find(report, "needless", where, notice, "a record below the committed offset", str(offset))

"""What has been folded late, and what waits still, of a history that may go on while it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Any, NamedTuple

from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord
from pipeline.model import Service, TopicKind
from pipeline.model.records.partitioning import partition_of
from pipeline.model.records.step_notes import StepNote, mark
from pipeline.model.start import NOW
from pipeline.verify.replay.notices import PARKED, Act, acts_in
from pipeline.verify.replay.parked_replay import ParkedReplay, folded_by
from pipeline.verify.report import Finding, Report
from pipeline.verify.sources.decode import Decoder
from pipeline.verify.sources.history import Entry, History

Rows = dict[tuple[bytes, int], Entry]  # by key and offset of the record that waits
Before = dict[TP, list[Act]]  # what had been done before anything else was read; that must show


class Late(NamedTuple):
    """A record as a node has folded it. `settled`: early enough that what came of it must be there."""

    entry: Entry
    key: str
    message: Any
    settled: bool


def queue_topic(service: str, topic: str) -> str:
    """The changelog of the records of `topic` that wait."""
    return TopicKind.QUEUE.topic(f"{service}.{topic}")


def still_held(history: History, service: str, tp: TP, report: Report) -> ParkedReplay:
    """The queues of a partition, to be replayed. What was done about records that retention has taken is left out.

    Where it has taken records or notices, what waits in the changelog, or was taken up again, is taken for parked when
    it came, and the queues themselves are not judged.
    """
    notices = history.kept(TopicKind.PARKED.topic(service))
    acts, low = acts_in(notices).get(tp, []), history.low(tp)
    kept = [act for act in acts if act.offset >= low]
    if len(kept) == len(acts) and not notices.cut:
        return ParkedReplay(kept)
    report.notes.append(f"what was parked of {tp.topic}-{tp.partition} is not judged: records or notices are gone")
    told = {act.offset for act in kept if act.at is None}
    places = {place for place in rows_of(history, service, tp) if place[1] >= low}
    places |= {(act.key, act.offset) for act in kept if act.at is not None}
    kept += [Act(PARKED, key, tp, n, None, 0, (), "", "", "", bare=False) for key, n in places if n not in told]
    return ParkedReplay(kept, complete=False)


def _entries(history: History, service: str, tp: TP) -> Iterator[Entry]:
    end = history.committed(service, tp) or 0
    return (entry for entry in history.records(tp) if entry.offset < end)


def _follows(decoder: Decoder) -> Callable[[Entry], bool | None]:
    def follows(entry: Entry) -> bool | None:
        try:
            return decoder.read(entry) is not None
        except UndecodableRecord:
            return None

    return follows


def _place(entry: Entry) -> tuple[bytes, int]:
    return entry.key or b"", entry.offset


class Follower(NamedTuple):
    """A step that takes no commands: its name, and where it is declared to begin."""

    name: str
    start: str


def folded(
    history: History, service: str, tp: TP, node: Follower, decoder: Decoder, before: Before, report: Report
) -> Iterator[Late]:
    """What a node that takes no commands has folded, in its order, up to what the service has committed now.

    If it is new and not built yet, what it has not come to may have been folded since, and need not. That it began
    late is believed only where it is declared to.
    """
    bound, early = history.bound(service, tp) or 0, set(before.get(tp, []))
    began, at, level = history.steps(service, tp).get(mark(node.name)) or StepNote(0, 0, level=True)
    began = began if node.start == NOW else 0
    bound, joined = (bound, float(at)) if level else (min(bound, at), inf)
    entries = _entries(history, service, tp)
    queues, partitions = still_held(history, service, tp, report), history.partitions(tp.topic)
    for entry, act in folded_by(node.name, queues, entries, _place, _follows(decoder), joined):
        read = decoder.read(entry)
        if read is None or entry.offset < began:
            continue
        if act is None and (home := partition_of(read[0].encode(), partitions)) != tp.partition:
            if not queues.complete:  # it was parked, as far as is known
                continue
            where = (service, *tp, read[0], entry.offset)
            report.add(Finding("misplaced", *where, f"parked, as it belongs in partition {home}", "folded"))
        by_itself = act is None or (act.at or 0) < joined
        yield Late(entry, *read, entry.offset < bound if by_itself else act in early)


def unbuilt(history: History, service: Service) -> set[str]:
    """The steps of a service that are new and not built yet."""
    steps = [(f"react:{reaction.name}", [reaction.source]) for reaction in service.reactions]
    for projection in service.projections:
        step = "project" if projection.route is None else "route"
        steps.append((f"{step}:{projection.name}", list(projection.sources)))
    places = {
        step: [TP(source.topic, n) for source in sources for n in range(history.partitions(source.topic))]
        for step, sources in steps
    }
    notes = {step: [history.steps(service.name, tp).get(mark(step)) for tp in tps] for step, tps in places.items()}
    return {step for step, found in notes.items() if any(note is not None and not note.level for note in found)}


def replayed(history: History, service: str, tp: TP, decoder: Decoder, report: Report) -> ParkedReplay:
    """The queues of a topic that brings no commands, as they are by what the service has committed now."""
    entries = _entries(history, service, tp)
    queues = still_held(history, service, tp, report)
    for _ in folded_by("", queues, entries, _place, _follows(decoder)):
        pass
    return queues


def rows_of(history: History, service: str, tp: TP) -> Rows:
    """What the changelog of a queue holds, by key and offset of the records that wait."""
    found: Rows = {}
    for entry in history.records(TP(queue_topic(service, tp.topic), tp.partition)):
        row = entry.key or bytes(12)
        place = row[4:-8], int.from_bytes(row[-8:], "big")
        found.pop(place, None)
        if entry.value is not None:
            found[place] = entry
    return found


def compare_queue(
    service: str, tp: TP, queues: ParkedReplay, rows: Rows, before: Before, history: History, report: Report
) -> None:
    """Report `missing_`, `extra_queued` and `unordered_queue`; the queues have been replayed, and hold what waits.

    `rows` were read after `before` and the bound, and before the notices.
    """
    bound, low = history.bound(service, tp) or 0, history.low(tp)
    rows = {place: entry for place, entry in rows.items() if place[1] >= low}
    report.checked["queued"] += len(rows)
    if not queues.complete:
        return
    for wrong in queues.wrong:
        report.add(Finding("unordered_queue", service, *tp, None, None, "each record in its turn, once", wrong))
    early = {(act.key, act.offset) for act in before.get(tp, []) if act.action != "parked"}
    due = {(key, held.offset) for key, waiting in queues.held.items() for held in waiting}
    for key, offset in sorted(due - rows.keys()):
        if offset < bound:
            where = (service, *tp, key.decode(errors="replace"), offset)
            report.add(
                Finding("missing_queued", *where, "it waits in its queue, or a notice says what became of it", "gone")
            )
    for key, offset in sorted(rows.keys() - due):
        if (key, offset) in early or not queues.has_taken(key, offset):
            entry = rows[key, offset]
            where = (service, queue_topic(service, tp.topic), tp.partition, key.decode(errors="replace"), entry.offset)
            report.add(Finding("extra_queued", *where, "nothing waits there", f"offset {offset}"))

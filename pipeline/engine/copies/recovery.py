"""Table copies: the tables of a source partition, rolled forward from their changelogs.

To a target, for a task that may fold only then; without one and for ever, as the standby of another worker's task.
Always forward from what is on disk, except for the named reasons to begin anew (`Wipe`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from pipeline.engine.copies.log_followers import Follower
from pipeline.engine.plan import SourceTopic
from pipeline.engine.ports import TP, Clock, LogFacts, Position, Record, Store
from pipeline.engine.state.indexes import declared, index_mark
from pipeline.engine.state.positions import CAUGHT_UP_MS, changelog_identity, changelog_position, source_position
from pipeline.engine.state.table import Pairs
from pipeline.engine.stats import LaneStats, Wipe
from pipeline.errors import LaneFatal, RecordsLost

log = logging.getLogger(__name__)

STALLED_S = 120.0


class TableRecovery(Follower):
    """Keeps the store of one source partition up with the changelogs of its tables."""

    def __init__(self, source: TP, source_topic: SourceTopic, store: Store, clock: Clock, stats: LaneStats) -> None:
        self._tables = {TP(spec.changelog, source.partition): spec for spec in source_topic.tables}
        places = {tp: changelog_position(tp.topic) for tp in self._tables}
        super().__init__("the local tables of {}-{}".format(*source), store, stats, places)
        self.source, self._clock = source, clock
        self._targets: dict[TP, int] | None = None
        self._facts: Mapping[str, LogFacts] = {}
        self.unfinished: set[TP] = set(self._tables)  # changelogs that have not reached their target yet
        self._aimed_ms, self._aimed_s, self._moved_s = 0, 0.0, 0.0
        self.rolled = 0  # records taken in since the copy was aimed
        self._from: dict[TP, int] = {}  # where each changelog stood then

    # --- beginning and end --------------------------------------------------------------------------------------------

    def begin(self, ends: Mapping[TP, int], facts: Mapping[str, LogFacts]) -> dict[TP, int | None]:
        """Return the offset from which to read each changelog. `ends`, `facts`: the current ones of all changelogs."""
        self._facts = facts
        marks = {changelog_identity(tp.topic): facts[tp.topic].identity for tp in self._tables}
        self._marks = marks | {index_mark(spec.name): declared(spec) for spec in self._tables.values() if spec.indexes}
        if why := self._useless(ends):
            self._wipe(why)
        self._sign()
        return {tp: self.stored(tp) for tp in self._tables}

    def set_target(self, committed: Position | None, ends: Mapping[TP, int]) -> None:
        """Set what was committed as the target: the copy is complete once it holds that.

        The commit itself says how far that is. Only if it does not, `ends` do, asked after it was read: a broker
        that stood still for a while may take itself for the leader, and tell ends from before.
        """
        noted = {} if committed is None else committed.changelogs
        self._moved_s = self._clock.monotonic_s()
        self._targets = {tp: noted[tp.topic][0] if tp.topic in noted else ends[tp] for tp in self._tables}
        self._aimed_ms, self._aimed_s, self.rolled = self._clock.time_ms(), self._clock.monotonic_s(), 0
        self._from = {tp: self.stored(tp) or 0 for tp in self._targets}
        self.unfinished = {tp for tp, target in self._targets.items() if self._from[tp] < target}

    @property
    def is_aimed(self) -> bool:
        """Whether it is known what was committed."""
        return self._targets is not None

    def progress(self) -> tuple[int, int]:
        """How many records were applied since the copy was aimed, and how many are to be, by their offsets.

        Safe from any thread; may raise TableUnavailable.
        """
        goals = [(tp, self._from.get(tp, 0), target) for tp, target in (self._targets or {}).items()]
        done = sum(min(self.stored(tp) or 0, target) - began for tp, began, target in goals if target > began)
        return max(0, done), sum(target - began for _, began, target in goals if target > began)

    def check(self) -> None:
        """Raise LaneFatal if the log does not deliver what was committed."""
        if self.unfinished and self._clock.monotonic_s() - self._moved_s > STALLED_S:
            places = ", ".join(
                f"{tp.topic}-{tp.partition} from {self.stored(tp) or 0}" for tp in sorted(self.unfinished)
            )
            raise LaneFatal(
                f"no stable record comes for {STALLED_S:.0f} s from {places}, though more was committed: a transaction "
                "is open there, or the broker has lost records"
            )

    @property
    def doing(self) -> str:
        """What it is at, for people. Safe from any thread; reads no store, which may be a database."""
        if self._targets is None:
            return "what was committed last is being looked up"
        if not (unfinished := list(self.unfinished)):
            return "they are complete; copies that its decisions read are not yet"
        return f"{self.rolled:,} records are rolled forward; {', '.join(tp.topic for tp in unfinished)} to be read on"

    def complete(self) -> set[TP]:
        """The changelogs that are read up to their targets."""
        return self._tables.keys() - self.unfinished

    def finish(self, committed: Position | None) -> dict[str, tuple[int, int]]:
        """All is in: the tables are what was committed at the group's source offset, which is noted.

        Returns the changelogs as the next commit has to name them.
        """
        if self.rolled:
            taken_s = self._clock.monotonic_s() - self._aimed_s
            event = {"event": "restored", **self.source._asdict()}
            log.info("%s-%d: %d records rolled forward in %.2f s", *self.source, self.rolled, taken_s, extra=event)
        if committed is not None:
            self.store.write([], {source_position(self.source.topic): committed.offset, CAUGHT_UP_MS: self._aimed_ms})
        elif any(self.store.scan(spec.prefix, spec.prefix, 1) for spec in self._tables.values()):
            # Rows and offsets are committed together, so the offset was there once, and so was its note.
            raise RecordsLost(
                f"the group has no offset for {self.source.topic}-{self.source.partition}, though tables were made "
                "from it, and no position is noted for it: both are lost. Folding from the beginning would do all of "
                "it again. Set the offset that you mean with kafka-consumer-groups --reset-offsets"
            )
        targets = self._targets or {}
        return {tp.topic: (targets[tp], self._facts[tp.topic].identity) for tp in self._tables}

    def sample_lag(self, ends: Mapping[TP, int], asked_s: float) -> bool:
        if caught_up := super().sample_lag(ends, asked_s):
            age_s = self._clock.monotonic_s() - self.lag.caught_up_s
            self.store.write([], {CAUGHT_UP_MS: self._clock.time_ms() - int(1000 * age_s)})
        return caught_up

    def age_s(self) -> float | None:
        """The copy's lag in seconds; None if it has never caught up. Safe from any thread."""
        return self.lag.age_s(self._clock.monotonic_s())

    # --- Follower -----------------------------------------------------------------------------------------------------

    def apply(self, tp: TP, records: Sequence[Record]) -> None:
        spec = self._tables[tp]
        assert self.store is not None, "only a partition with tables has something to follow"
        rows = spec.rows(spec, self.store, [(record.key(), record.value()) for record in records])
        self._write(rows, tp, records[-1].offset() + 1)
        while spec.trim(spec, self.store, records[-1].value()):
            pass
        self._stats.restored += len(records)
        self.rolled += len(records)

    def begin_again(self) -> Iterable[TP]:
        super().begin_again()
        self._from = {}
        self.unfinished = {tp for tp in self._tables if self._targets is None or self._targets[tp] > 0}
        return self.unfinished

    # --- the store ----------------------------------------------------------------------------------------------------

    def _useless(self, ends: Mapping[TP, int]) -> Wipe | None:
        """The reason why the store cannot be rolled forward, if it cannot."""
        caught_up_ms = self.store.position(CAUGHT_UP_MS)
        for tp in self._tables:
            stored, facts = self.stored(tp), self._facts[tp.topic]
            if stored is None:
                prefix = self._tables[tp].prefix
                if self.store.scan(prefix, prefix, 1):  # they came from another topic
                    return Wipe.OTHER_REVISION
                continue
            if (self.store.position(index_mark(self._tables[tp].name)) or 0) != declared(self._tables[tp]):
                return Wipe.OTHER_INDEXES
            if self.store.position(changelog_identity(tp.topic)) not in (None, facts.identity):
                return Wipe.OTHER_TOPIC
            if stored > ends[tp]:
                return Wipe.AHEAD
            # A deletion stays that long after what it deletes was cleaned away. Half of it, as clocks differ. One
            # offset short is no deletion: it is the marker of the last transaction.
            age_ms = self._clock.time_ms() - (caught_up_ms or 0)
            if stored + 1 < ends[tp] and age_ms > facts.delete_retention_ms / 2:
                return Wipe.TOO_OLD
        return None

    def _sign(self) -> None:
        began = {} if self.store.position(CAUGHT_UP_MS) is not None else {CAUGHT_UP_MS: self._clock.time_ms()}
        self.store.write([], {**self._marks, **began})

    def _write(self, rows: Pairs, tp: TP, position: int) -> None:
        self._moved_s = self._clock.monotonic_s()
        super()._write(rows, tp, position)
        # An end below the target is the last stable offset: a commit below the target is still under way. Wait for it.
        if self._targets is not None and position >= self._targets[tp]:
            self.unfinished.discard(tp)


def at_least(ends: Mapping[TP, int], committed: Position | None, partition: int) -> dict[TP, int]:
    """Return the ends of changelogs, those that a commit has named included."""
    noted = {} if committed is None else committed.changelogs
    named = {TP(topic, partition): offset for topic, (offset, _) in noted.items()}
    return {tp: max(end, named.get(tp, 0)) for tp, end in ends.items()}

"""The history of one partition: its event log by key and version, for those who ask what has happened.

A local copy that trails the log. It is no part of the checkpoint: what is folded does not wait for it, and a crash
costs the reading of what was not flushed yet.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from pipeline.engine.copies.log_followers import Follower
from pipeline.engine.parking.parking_log import describe_error
from pipeline.engine.parking.unknown import Unknown
from pipeline.engine.ports import TP, LogFacts, Record, Store
from pipeline.engine.state.history_reader import EVENT, STATE, HistoryReader, HistorySpec, at_version, version_of
from pipeline.engine.stats import LaneStats, Wipe
from pipeline.errors import HistoryIncomplete, NotKnownYet, UndecodableRecord
from pipeline.flow import events_to_state
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import EventMessage

log = logging.getLogger(__name__)

POSITION = "events"  # up to which offset the log is contained
IDENTITY = "history of"  # the position that holds the identity of the topic
REVISION = "revision"  # the position that holds that of the states; none: the first
FLUSH_ROWS = 200_000


class HistoryFollower(Follower):
    """Keeps the history of one partition up with its event log."""

    def __init__(self, spec: HistorySpec, partition: int, store: Store, stats: LaneStats, snapshot_every: int) -> None:
        self.log = TP(spec.topic, partition)
        super().__init__("the history of {}-{}".format(*self.log), store, stats, {self.log: POSITION})
        self.past = HistoryReader(spec, store)
        self._unknown = Unknown(f"the history of {spec.aggregate.name}", self.log, stats)
        self._spec, self._every = spec, snapshot_every
        self.target: int | None = None  # the log's end when it was begun; what lies below must be in before it answers
        self.ended = False  # whether it has got to the end that the log had when it was read last

    @property
    def building(self) -> bool:
        """Whether events from before it was opened are still missing."""
        return self.target is None or self.position < self.target

    @property
    def position(self) -> int:
        """The offset up to which the log is applied."""
        return self.stored(self.log) or 0

    def begin(self, facts: LogFacts, end: int) -> int | None:
        """Where to read on. `facts`: what the event topic is; `end`: where the partition ends now."""
        self._marks = {IDENTITY: facts.identity, REVISION: self._spec.aggregate.revision}
        if self.store.position(IDENTITY) not in (None, facts.identity):
            self._wipe(Wipe.OTHER_TOPIC)
        elif self.position and (self.store.position(REVISION) or 1) != self._spec.aggregate.revision:
            self._wipe(Wipe.OTHER_REVISION)
        elif self.position > end:
            self._wipe(Wipe.AHEAD)
        self._sign()
        self.target = end
        return self.stored(self.log)

    # --- Follower -----------------------------------------------------------------------------------------------------

    def apply(self, tp: TP, records: Sequence[Record]) -> int | None:
        rows: list[tuple[bytes, bytes | None]] = []
        due: set[bytes] = set()  # keys that have come to a version whose state is kept
        decode, every = self._spec.events.decode, self._every
        stands: int | None = None
        for number, record in enumerate(records):
            key, value = record.key(), record.value()
            try:
                version = decode(value if key is not None else None)[0]
            except NotKnownYet as error:
                stands = record.offset()
                self._unknown.wait(stands, error)
                records = records[:number]
                break
            except UndecodableRecord as error:
                self._stats.skipped_by_history += 1
                log.error("the history skips %s-%d offset %d: %s", *self.log, record.offset(), error)
                continue
            rows.append((at_version(EVENT, key, version), value))
            if version % every == 0:
                due.add(key)
        if stands is None:
            self._unknown.go_on()
        elif not records:
            return stands
        if self.stored(tp) is None:
            self._check_beginning(rows)
        if due:
            rows += self._states(due, records)
        self.ended = False
        self._stats.history_events += len(records)
        self._write(rows, tp, records[-1].offset() + 1)
        if self.unflushed >= FLUSH_ROWS:
            self.flush()
        return stands

    def close(self) -> None:
        """Close the store, as the partition is given up."""
        self._unknown.forget()
        self.store.close()

    def reached(self, tp: TP, end: int) -> None:
        self.ended = end >= self.position
        super().reached(tp, end)

    def begin_again(self) -> Iterable[TP]:
        self.target, self.ended = max(self.target or 0, self.position), False
        return super().begin_again()

    # --- small things -------------------------------------------------------------------------------------------------

    def _states(self, keys: set[bytes], records: Sequence[Record]) -> Iterator[tuple[bytes, bytes]]:
        """The states to keep of some keys, to which `records` have come."""
        arrived: dict[bytes, list[EventMessage]] = {key: [] for key in keys}
        for record in records:
            if (events := arrived.get(record.key())) is not None:
                with suppress(UndecodableRecord):  # skipped
                    events.append(self._spec.events.decode(record.value()))
        for key, events in arrived.items():
            try:
                yield from self._states_of(key, events)
            except HistoryIncomplete:
                pass  # those who ask are told
            except BaseException as error:
                if not is_topologys(error):  # but the store's, which is not to be used any more
                    raise
                # The events are kept all the same, and whoever asks gets the error.
                cause, _ = describe_error(error)
                log.error("%s %r, one of its states cannot be kept: %s", self._spec.aggregate.name, key, cause)

    def _states_of(self, key: bytes, events: Sequence[EventMessage]) -> Iterator[tuple[bytes, bytes]]:
        state = self.past.state(key, events[0].version - 1)
        for event in events:
            state = events_to_state(self._spec.aggregate, key, state, [event])
            if event.version % self._every == 0:
                yield at_version(STATE, key, event.version), self._spec.states.encode(state)

    def _check_beginning(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Warn if the first event of the log is not the first of its key."""
        if rows and (version := version_of(rows[0][0])) > 1:
            log.warning("%s-%d has lost its beginning: its first event is version %d", *self.log, version)

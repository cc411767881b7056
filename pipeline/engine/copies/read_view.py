"""What readers in other threads see of a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from pipeline.engine.copies.recovery import TableRecovery
from pipeline.engine.copies.replica_queue import ReplicaQueue
from pipeline.engine.plan import SourceTopic
from pipeline.engine.ports import Store
from pipeline.engine.state.positions import changelog_position, source_position
from pipeline.engine.state.table import RowCodec


class ReadView(NamedTuple):
    """Where to read a table of one partition. Holds committed rows only.

    `folded`: name of the position that says how far its source is folded in; of no standby's store. `rows`: of that
    which says how far its row topic is contained; empty for a replica.
    `restoring`: rows may still be missing. `copy`: set if another worker owns the partition and this is its standby.
    `shared`: a read may have to wait, for a database. `age_s`: of a replica; for how long it may lack something.
    `held`: of a replica; keys of which it lacks events for longer. `unbuilt`: says why a table that is new to its
    service, or its states' revision, is not whole yet; None once it is.
    """

    store: Store
    prefix: bytes
    codec: RowCodec
    folded: str
    restoring: bool = False
    copy: TableRecovery | None = None
    shared: bool = False
    rows: str = ""
    age_s: Callable[[], float | None] | None = None
    held: ReplicaQueue | None = None
    unbuilt: Callable[[], str | None] | None = None


def views_of(
    source_topic: SourceTopic,
    copy: TableRecovery,
    *,
    restoring: bool,
    standby: bool,
    unbuilt: Callable[[str], str | None],
) -> dict[str, ReadView]:
    """Return the views of all tables of a source partition, by name. `unbuilt`: see ReadView, of a table."""
    return {
        spec.name: ReadView(
            copy.store,
            spec.prefix,
            spec.codec,
            source_position(source_topic.topic),
            restoring,
            copy if standby else None,
            not source_topic.keeps_locally,
            changelog_position(spec.changelog),
            unbuilt=partial(unbuilt, spec.name),
        )
        for spec in source_topic.tables
    }

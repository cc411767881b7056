"""States of a revision that are built ahead, while workers of another one go on; see rebuild.states.

How far they are is noted among the service's positions, under the topic of the states. A worker that takes a partition
over commits that first; then it fences the transactions of the build, and makes sure that nothing was written to the
states since it has restored them. The build looks for such commits once it has the epoch of its transactions. So one of
both hears of the other, and no state is written behind the back of its owner.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.engine.ports import TP
from pipeline.engine.state.history_reader import HistorySpec
from pipeline.engine.state.noted import Noted
from pipeline.model.records.step_notes import StepNote, StepNotes, mark


def build_name(group: str, spec: HistorySpec) -> str:
    """The id of the transactions that build states ahead. `group`: of the service."""
    return f"{group}-{spec.aggregate.kept_as}-build"


def built_place(spec: HistorySpec, partition: int) -> TP:
    """Under which place it is noted how far the states of a partition are built."""
    return TP(spec.states_topic, partition)


def built_steps(spec: HistorySpec, partition: int, noted: Mapping[TP, Noted], steps: StepNotes) -> StepNotes:
    """Return the notes of a partition, and how far its states are built where no worker has had them yet."""
    built, name = noted.get(built_place(spec, partition)), mark(spec.states_topic)
    return steps if built is None or name in steps else {**steps, name: StepNote(0, built.offset, level=False)}

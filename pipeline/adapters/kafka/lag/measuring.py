"""The lag of services from the topics alone: committed offsets, ends of logs, when the next records were appended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from types import TracebackType
from typing import NamedTuple

from confluent_kafka import KafkaException

from pipeline.adapters.kafka.cluster import GROUP_S, admin
from pipeline.adapters.kafka.group_offsets import GroupOffsets
from pipeline.adapters.kafka.lag.logs import KafkaLogs
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable, TopicError


class GroupLag(NamedTuple):
    """How far a group is behind in a partition. `committed`: its next offset; None: it has committed none.

    `records`: to the end of the log, transaction markers included. `seconds`: the age of the next record to fold, 0 if
    there is none; None if it could not be read in time.
    """

    tp: TP
    committed: int | None
    end: int
    records: int
    seconds: float | None


class Measuring:
    """Measures groups, by the names of their source topics. A context manager, as it keeps its connections."""

    def __init__(self, bootstrap: str, groups: Mapping[str, Sequence[str]]) -> None:
        self._bootstrap, self._groups = bootstrap, groups
        self._logs, self._open = KafkaLogs(bootstrap), ExitStack()
        self._offsets: dict[str, GroupOffsets] = {}

    def __enter__(self) -> Measuring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def measure(self) -> dict[str, list[GroupLag]]:
        """Return the lag of each partition, by group. Raises BrokerUnreachable, TopicError."""
        committed = {group: self._committed(group, tps) for group, tps in self._partitions().items()}
        tps = sorted({tp for of in committed.values() for tp in of})
        ends, firsts = self._logs.ends(tps), self._logs.firsts(tps)  # after the committed offsets: none is beyond
        lags = {}
        for group, of in committed.items():
            starts = {tp: max(firsts[tp], offset or 0) for tp, offset in of.items()}
            appended = self._logs.appended_ms({tp: start for tp, start in starts.items() if start < ends[tp]})
            now_ms = time.time_ns() // 1_000_000
            lags[group] = [
                GroupLag(
                    tp, offset, ends[tp], max(0, ends[tp] - starts[tp]), _seconds(tp, starts, ends, appended, now_ms)
                )
                for tp, offset in of.items()
            ]
        return lags

    def _partitions(self) -> dict[str, list[TP]]:
        try:
            counts = partition_counts(admin(self._bootstrap))
        except KafkaException as error:
            raise BrokerUnreachable(f"the broker does not say which topics there are: {error.args[0].str()}") from None
        if missing := sorted({topic for topics in self._groups.values() for topic in topics} - counts.keys()):
            raise TopicError(f"there is no topic {', '.join(missing)}; create it with: pipeline topics create TOPOLOGY")
        return {
            group: [TP(topic, n) for topic in sorted(topics) for n in range(counts[topic])]
            for group, topics in self._groups.items()
        }

    def _committed(self, group: str, tps: Iterable[TP]) -> dict[TP, int | None]:
        if group not in self._offsets:
            # The last commit, also while the next one is under way: a group that is busy has one under way always.
            self._offsets[group] = self._open.enter_context(closing(GroupOffsets(self._bootstrap, group, stable=False)))
        found = self._offsets[group].of_all(tps, GROUP_S)
        return {tp: found[tp].offset if tp in found else None for tp in tps}


def _seconds(
    tp: TP, starts: Mapping[TP, int], ends: Mapping[TP, int], appended: Mapping[TP, int | None], now_ms: int
) -> float | None:
    if starts[tp] >= ends[tp]:
        return 0.0
    if tp not in appended:
        return None
    appended_ms = appended[tp]
    return 0.0 if appended_ms is None else max(0, now_ms - appended_ms) / 1000

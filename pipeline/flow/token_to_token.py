"""token -> token: follow a position of one topic downstream, hop by hop.

A service commits how far it has folded together with all that came of it. So once it has committed past a position,
whatever came of that lies below the ends that the logs it writes to have now, records of open transactions included.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from pipeline.errors import ForeignToken
from pipeline.flow.lineage import Hop, Lineage, Partitions
from pipeline.model.records.token import furthest

Place = tuple[str, int]  # topic and partition
Positions = Mapping[Place, int]


class Folder(NamedTuple):
    """A partition and the service that folds it."""

    service: str
    topic: str
    partition: int


class OffsetSource(Protocol):
    """The committed offsets of services and the ends of logs. Topics have their declared names."""

    async def partitions(self, topic: str) -> int: ...
    async def passed(self, wanted: Mapping[Folder, int]) -> None:
        """Wait until each folder has committed past its offset. Raises NotYet if that takes too long."""

    async def ends(self, partitions: Sequence[Place]) -> Positions:
        """The ends of logs, asked after the call: the offset behind the last record, open transactions included."""


async def token_to_token(
    lineage: Lineage, token: Positions, home: str, partitions: frozenset[int], offset_source: OffsetSource
) -> dict[int, int]:
    """The offsets that those `partitions` of `home` must be folded past to contain the effects of `token`.

    Follows all paths that visit no topic twice. Where services cause each other in a circle, what comes of the token
    in a second round through `home` is not waited for. Positions that cannot come to `home` are left aside; raises
    ForeignToken if none of them can, or if one is of a topic or partition that the topology does not have.
    """
    upstream = lineage.upstream(home, partitions)
    await _check(lineage, token, upstream.keys(), home, offset_source)
    due: dict[int, int] = {}
    here = dict(token)
    for _ in upstream:  # no path is longer
        for (topic, n), offset in here.items():
            if topic == home and n in partitions:
                due[n] = max(offset, due.get(n, 0))
        hops = [
            (hop, n, offset)
            for (topic, n), offset in here.items()
            for hop in lineage.hops
            if hop.source == topic != home and hop.target in upstream and _matters(upstream[topic], n)
        ]
        if not hops:
            break
        await offset_source.passed(furthest(*[{Folder(hop.service, hop.source, n): offset} for hop, n, offset in hops]))
        targets = {place for hop, n, _ in hops for place in await _targets(hop, n, upstream[hop.target], offset_source)}
        ends = await offset_source.ends(sorted(targets))
        here = {place: end - 1 for place, end in ends.items() if end > 0}
    return due


async def _check(
    lineage: Lineage, token: Positions, upstream: Collection[str], home: str, offset_source: OffsetSource
) -> None:
    for topic, n in token:
        if topic not in lineage.topics:
            raise ForeignToken(f"unknown topic {topic} in the token: this topology has none of that name")
        if n >= await offset_source.partitions(topic):
            raise ForeignToken(f"unknown partition {n} of {topic} in the token: the topic has fewer partitions")
    if token and not any(topic in upstream for topic, _ in token):
        topics = ", ".join(sorted({topic for topic, _ in token}))
        raise ForeignToken(
            f"the token does not concern this table: nothing flows from {topics} to {home}; what a saga asks "
            "of others is not followed: wait until the saga has ended, and read then"
        )


def _matters(partitions: Partitions, n: int) -> bool:
    return partitions is None or n in partitions


async def _targets(hop: Hop, n: int, wanted: Partitions, offset_source: OffsetSource) -> list[Place]:
    """The partitions among those wanted that the hop can write to from partition `n`."""
    written = range(await offset_source.partitions(hop.target)) if hop.spreads else (n,)
    return [(hop.target, m) for m in written if _matters(wanted, m)]

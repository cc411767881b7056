"""How many partitions a source topic has had since a service first committed there: that says where each key lives.

Kafka lets partitions be added to a topic at any time. From then on producers send half of the keys elsewhere, where
nothing is known of them, and what is known of them stays behind. So the count is noted with each commit, and a task
does not start with another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pipeline.engine.ports import TP, LogFacts, Position
from pipeline.errors import PartitionsChanged

Committed = Mapping[TP, Position | None]


def check(committed: Committed, now: Mapping[str, int]) -> None:
    """Raise PartitionsChanged if a topic was committed with another count than it has now."""
    for tp in sorted(committed):
        check_count(tp.topic, noted(committed[tp]), now.get(tp.topic, 0))


def noted(position: Position | None) -> int:
    """Return the count that was noted with a commit; 0: none, or nothing is folded yet, so that no key is known."""
    return position.partitions if position is not None and position.offset else 0


def check_count(topic: str, then: int, now: int) -> None:
    """Raise PartitionsChanged if these counts differ; 0: not known."""
    if not then or not now or then == now:
        return
    raise PartitionsChanged(
        f"{topic} had {then} partitions when its records were first folded here, and has {now} now, so keys belong to "
        "other partitions than those that know them; nothing more is folded, and nothing is lost. Kafka takes no "
        "partition away again. If what its topics hold may go, delete them and make them anew with: pipeline topics "
        "create TOPOLOGY; else declare what writes it under another name, with topics of its own, and take the old events "
        "over by a reaction (docs/parking.md, When partitions were added)"
    )


def partition_counts(
    asked: Sequence[TP],
    committed: Committed,
    facts: Mapping[str, LogFacts],
    ask: Callable[[Sequence[TP]], Committed | None],
) -> dict[str, int] | None:
    """Return the partitions of each topic as of its first commit, or as they are now if there is none yet.

    A partition without a commit may be one that was added, so the others of its topic are asked for, too. None if the
    positions are not available yet: ask again. Raises PartitionsChanged.
    """
    unknown = sorted({tp.topic for tp in asked if noted(committed.get(tp)) == 0})
    siblings = [TP(topic, n) for topic in unknown for n in range(facts[topic].partitions)]
    unasked = [tp for tp in siblings if tp not in committed]
    if (others := ask(unasked) if unasked else {}) is None:
        return None
    check({**committed, **others}, {topic: facts[topic].partitions for topic in facts})
    return {topic: about.partitions for topic, about in facts.items()}

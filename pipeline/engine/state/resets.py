"""Setting a group's offsets to where its service stands: what is to be set, and what cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipeline.engine.ports import TP
from pipeline.engine.state.noted import Noted, made_again


class Reset(NamedTuple):
    """One partition. `offset`: the group's, None if it has none; `target`: where to set it; `lost`: what is not there.

    `noted`: where the service stands, as it is to be noted once what is lost is accepted.
    """

    tp: TP
    offset: int | None
    stands_at: int
    target: int
    lost: str
    noted: Noted


def resets(
    notes: Mapping[TP, Noted],
    offsets: Mapping[TP, int],
    bounds: Mapping[TP, tuple[int, int]],
    identities: Mapping[str, int],
) -> list[Reset]:
    """Return what is to be done for each noted partition, in order.

    `bounds`: the first offset of each log, and that behind the last; `identities`: of all topics there are.
    """
    return [_reset(tp, noted, offsets.get(tp), bounds[tp], identities) for tp, noted in sorted(notes.items())]


def _reset(tp: TP, noted: Noted, offset: int | None, bounds: tuple[int, int], identities: Mapping[str, int]) -> Reset:
    (low, end), at = bounds, noted.offset
    others = made_again(noted.standing.topics, identities)
    lost, target = "", at
    if others:
        lost = f"{', '.join(others)} has been deleted and created again"
    if tp.topic in others or not low <= at <= end:
        target = low
        lost = lost or (f"its log begins at {low}" if at < low else f"its log ends at {end}")
    topics = {name: identities.get(name, identity) for name, identity in noted.standing.topics.items()}
    steps = noted.steps if target == at else {}  # from there on all fold alike
    return Reset(tp, offset, at, target, lost, Noted(target, noted.standing._replace(topics=topics), steps))


def losses(found: Iterable[Reset]) -> list[str]:
    """Return what is lost, partition by partition."""
    return ["{}-{} stands at {}, but {}".format(*each.tp, each.stands_at, each.lost) for each in found if each.lost]

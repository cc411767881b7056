"""What decisions have read of copies, by what they have recorded; and the copies as they were then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pipeline.engine.ports import TP
from pipeline.engine.state.table import RowCodec
from pipeline.errors import InvalidToken
from pipeline.model import Aggregate, Replica, TopicKind
from pipeline.testing.simulation.judge.differences import committed
from pipeline.verify.replay.copies import PastCopies, Recorded

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World


def past_copies(
    world: World, a: Aggregate[Any, Any, Any], followed: Callable[[str, object], RowCodec]
) -> PastCopies | None:
    """The copies that an aggregate reads, at any position; None where it reads none."""
    if not a.replicas:
        return None

    def records(replica: Replica[Any, Any], tp: TP) -> Iterator[tuple[int, str, Any]]:
        decode = followed(tp.topic, replica.source.event).decode
        for record in committed(world, tp):
            if (body := decode(record.value()).body) is not None:
                yield record.offset(), record.key().decode(), body

    topics = world.kafka.topics
    return PastCopies(a, records, lambda topic: len(topics[topic].logs), lambda tp: int(world.kafka.log(tp).end))


def recorded(
    world: World, a: Aggregate[Any, Any, Any], partition: int, codec: Mapping[str, RowCodec], past: PastCopies | None
) -> Recorded | None:
    """What the decisions of a partition say; a position that its copies cannot have had is left out."""
    if past is None:
        return None
    answers, events = TP(TopicKind.REPLIES.topic(a.name), partition), TP(TopicKind.EVENT.topic(a.name), partition)
    found = Recorded(past)
    for record in committed(world, events):
        with suppress(InvalidToken):
            found.take_event(record.key(), codec[events.topic].decode(record.value()))
    if a.idempotency is not None:
        for record in committed(world, answers):
            with suppress(InvalidToken):
                found.take_reply(codec[answers.topic].decode(record.value()))
    return found

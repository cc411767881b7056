"""The identity of a lane in its group: the name that fences, and what tells two holders of one name apart.

A lane's name, made of service, node and slot, is the id of its transactions: a new producer of that name fences
the one before. That is right if a worker comes back, and wrong if two machines were given one name. So the name of a
member in the group also says which home it lives in. A lane that finds a namesake from another home waits whether it is
the remains of a dead one, and otherwise gives up before any producer is fenced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple
from zlib import crc32

from pipeline.engine.ports import Clock, GroupConsumer
from pipeline.errors import BrokerUnreachable, NameTaken

log = logging.getLogger(__name__)

LOOK_S = 0.5
ASKED_AGAIN_MAX = 10  # times a minute's patience


class Identity(NamedTuple):
    """A member's static name in its group. `name`: also the id of its transactions. `home`: a random word of its own.

    `port`: of the address to route queries to, which the coordinator keeps for a static member that comes back; for
    another address than that of the machine itself, a number that stands for all of it. `topics`: a word for those that
    it reads. A static member that comes back gets the partitions that it had, whatever it subscribes to now; with other
    topics it has to be another member.
    """

    name: str
    port: int
    home: str
    topics: str = ""

    def __str__(self) -> str:
        return f"{self.name}-{self.port}-{self.home}" + (f".{self.topics}" if self.topics else "")

    @classmethod
    def parse(cls, member: str) -> Identity | None:
        """Parse a member's static name; None if it is no lane's."""
        name, dash, rest = member.rpartition("-")
        name, other, port = name.rpartition("-")
        home, _, topics = rest.partition(".")
        return cls(name, int(port), home, topics) if name and dash and other and port.isdigit() else None


def slot_name(group: str, node: str, slot: int) -> str:
    """The name of the holder of that slot of a service on that node."""
    return "-".join(part for part in (group, node, str(slot)) if part)


def topics_word(topics: Iterable[str]) -> str:
    """A word that is another one for other topics."""
    return f"{crc32(' '.join(sorted(topics)).encode()):08x}"


def names(members: Iterable[str]) -> set[str]:
    """The names of the lanes among the members of a group."""
    return {identity.name for member in members if (identity := Identity.parse(member))}


def others(members: Iterable[str], name: str, ending: str = "") -> set[str]:
    """The names of the lanes that are there without that of this name, and without those of the home `ending`."""
    found = (Identity.parse(member) for member in members)
    return {other.name for other in found if other and other.name != name and (not ending or other.home != ending)}


def namesake(members: Iterable[str], mine: Identity) -> Identity | None:
    """A member of the same name from another home; None if there is none."""
    others = (Identity.parse(member) for member in members)
    return next((other for other in others if other and other.name == mine.name and other.home != mine.home), None)


def make_sure_of(
    identity: Identity, consumer: GroupConsumer, clock: Clock, wait: Callable[[float], object], session_s: float
) -> None:
    """Return once no other member has that name. A dead member stays in the group for its session, `session_s`.

    To be called before a producer of that name is opened. Raises NameTaken.
    """
    seen_s: float | None = None
    while other := namesake(_members(consumer, wait), identity):
        now_s = clock.monotonic_s()
        if seen_s is None:
            seen_s = now_s
            log.warning(
                "%s is in the group already, from another home; waiting until its session may have expired",
                identity.name,
            )
        elif now_s - seen_s > session_s:
            raise NameTaken(
                f"another worker is in the group as {identity.name!r} (its member {other}): give each machine a --node "
                "of its own, or the workers of one machine the same --home"
            )
        wait(LOOK_S)


def _members(consumer: GroupConsumer, wait: Callable[[float], object]) -> set[str]:
    """Ask again for some minutes: on a busy machine a new cluster takes long to make the group's coordinator."""
    for _ in range(ASKED_AGAIN_MAX):
        try:
            return consumer.members()
        except BrokerUnreachable as error:
            log.warning("%s; asking again", error)
            wait(LOOK_S)
    return consumer.members()

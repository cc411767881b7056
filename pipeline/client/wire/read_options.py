"""The options of a read, as query parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from pipeline.errors import BadRequest
from pipeline.model import Token

WAIT_S, WAIT_S_MAX = 5.0, 60.0


EVERYTHING = Token()  # contained in every answer


class Level(Enum):
    """The consistency of a read; see docs/consistency.md."""

    OWNER = "owner"  # what the partition's owner holds; the default
    EVENTUAL = "eventual"  # what the owner or a standby holds, with its age
    LINEARIZABLE = "linearizable"  # for an aggregate: all that was stored before the request
    FRESH = "fresh"  # for a projection or replica: all that its sources held at the request


class Pending(Enum):
    """How a read treats what an aggregate holds for open transactions; see docs/transactions.md."""

    SHOW = "show"  # the row as it is, with what is held; the default
    HIDE = "hide"  # as if all that is held had been released
    WAIT = "wait"  # answer once nothing is held


LEVELS = {level.value: level for level in Level}
KINDS = {pending.value: pending for pending in Pending}


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a table. `at_least`: what the answer must contain; `wait_s`: how long to wait for that.

    `max_age_s`: the largest age of an eventual answer. `pending`: for an aggregate that takes part in transactions.
    """

    level: Level = Level.OWNER
    at_least: Token = EVERYTHING
    wait_s: float = WAIT_S
    max_age_s: float = float("inf")
    pending: Pending = Pending.SHOW

    @property
    def eventual(self) -> bool:
        """Whether a standby may answer."""
        return self.level is Level.EVENTUAL

    def query(self) -> dict[str, str]:
        """Return the options as query parameters."""
        asked = {"consistency": self.level.value} if self.level is not Level.OWNER else {}
        asked |= {"at_least": str(self.at_least)} if self.at_least else {}
        asked |= {"max_age": f"{self.max_age_s:.3f}"} if self.max_age_s != float("inf") else {}
        asked |= {"pending": self.pending.value} if self.pending is not Pending.SHOW else {}
        return asked | ({"wait": f"{self.wait_s:.3f}"} if self.wait_s != WAIT_S else {})


def parse_read_options(query: Mapping[str, str]) -> ReadOptions:
    """Return the options in the query parameters. Raises BadRequest, InvalidToken."""
    name = query.get("consistency", Level.OWNER.value)
    if name not in LEVELS:
        raise BadRequest(f"consistency {name!r:.100} is not known; there are {', '.join(LEVELS)}")
    level = LEVELS[name]
    token = Token(query.get("at_least", ""))
    token.positions  # noqa: B018  # raises if it is malformed
    if token and level is Level.EVENTUAL:
        raise BadRequest("only the owner of the partition can serve at_least; leave consistency=eventual out")
    if "max_age" in query and level is not Level.EVENTUAL:
        raise BadRequest("max_age needs consistency=eventual: all other reads are served by the owner")
    max_age_s = _seconds(query, "max_age") if "max_age" in query else float("inf")
    wait_s = min(_seconds(query, "wait"), WAIT_S_MAX) if "wait" in query else WAIT_S
    kind = query.get("pending", Pending.SHOW.value)
    if kind not in KINDS:
        raise BadRequest(f"pending={kind!r:.100} is not known; there are {', '.join(KINDS)}")
    pending = KINDS[kind]
    if pending is Pending.WAIT and level is Level.EVENTUAL:
        raise BadRequest("only the owner of the partition can serve pending=wait; leave consistency=eventual out")
    return ReadOptions(level, token, wait_s, max_age_s, pending)


def _seconds(query: Mapping[str, str], name: str) -> float:
    text = query[name]
    whole, _, rest = text.partition(".")
    if not (
        whole.isascii() and whole.isdigit() and len(text) <= 12 and ((rest.isascii() and rest.isdigit()) or not rest)
    ):
        raise BadRequest(f"{name}={text!r:.100} is not a number of seconds, such as 2.5")
    return float(text)

"""How a table is to be read, as the parameters of a query say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from pipeline.errors import BadRequest
from pipeline.model import Token

WAIT_S, WAIT_S_MAX = 5.0, 60.0


EVERYTHING = Token()  # is at least this


class Level(Enum):
    """What an answer promises; see docs/consistency.md."""

    OWNER = "owner"  # what the owner of the partition holds; where nothing is said
    EVENTUAL = "eventual"  # or what a standby holds, with its age
    LINEARIZABLE = "linearizable"  # of an aggregate: all that was stored before the question
    FRESH = "fresh"  # of a projection or replica: all that its sources held when it was asked


class Pending(Enum):
    """What is to come of what an aggregate holds for transactions that have not ended; see docs/transactions.md."""

    SHOW = "show"  # the row as it is, with what is held; where nothing is said
    HIDE = "hide"  # as if all that is held had been let go
    WAIT = "wait"  # answer once nothing is held


LEVELS = {level.value: level for level in Level}
KINDS = {pending.value: pending for pending in Pending}


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a table is to be read. `at_least`: what the answer has to contain; `wait_s`: how long that may take.

    `max_age_s`: how old an eventual answer may be. `pending`: of an aggregate that takes part in transactions.
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
        """The options as query parameters of a request."""
        asked = {"consistency": self.level.value} if self.level is not Level.OWNER else {}
        asked |= {"at_least": str(self.at_least)} if self.at_least else {}
        asked |= {"max_age": f"{self.max_age_s:g}"} if self.max_age_s != float("inf") else {}
        asked |= {"pending": self.pending.value} if self.pending is not Pending.SHOW else {}
        return asked | ({"wait": f"{self.wait_s:.3f}"} if self.wait_s != WAIT_S else {})


def parse_read_options(query: Mapping[str, str]) -> ReadOptions:
    """What the parameters of a query say. Raises BadRequest, InvalidToken."""
    name = query.get("consistency", Level.OWNER.value)
    if name not in LEVELS:
        raise BadRequest(f"consistency {name!r:.100} is not known; there are {', '.join(LEVELS)}")
    level = LEVELS[name]
    token = Token(query.get("at_least", ""))
    token.positions  # noqa: B018  # raises what is wrong with it
    if token and level is Level.EVENTUAL:
        raise BadRequest("at_least is answered by the owner of the partition; leave consistency=eventual out")
    if "max_age" in query and level is not Level.EVENTUAL:
        raise BadRequest("max_age goes with consistency=eventual: all other answers are the owner's")
    max_age_s = _seconds(query, "max_age") if "max_age" in query else float("inf")
    wait_s = min(_seconds(query, "wait"), WAIT_S_MAX) if "wait" in query else WAIT_S
    kind = query.get("pending", Pending.SHOW.value)
    if kind not in KINDS:
        raise BadRequest(f"pending={kind!r:.100} is not known; there are {', '.join(KINDS)}")
    pending = KINDS[kind]
    if pending is Pending.WAIT and level is Level.EVENTUAL:
        raise BadRequest("pending=wait is answered by the owner of the partition; leave consistency=eventual out")
    return ReadOptions(level, token, wait_s, max_age_s, pending)


def _seconds(query: Mapping[str, str], name: str) -> float:
    text = query[name]
    whole, _, rest = text.partition(".")
    if not (
        whole.isascii() and whole.isdigit() and len(text) <= 12 and ((rest.isascii() and rest.isdigit()) or not rest)
    ):
        raise BadRequest(f"{name}={text!r:.100} is no number of seconds, such as 2.5")
    return float(text)

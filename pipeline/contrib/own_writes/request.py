"""What the clients of one request share: the ids of its commands, and what its reads have to contain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.client import Accepted
from pipeline.client.typed.subjects import AnyTable
from pipeline.contrib.own_writes.logs import Logs
from pipeline.contrib.own_writes.positions import OwnWrites
from pipeline.errors import NoReply
from pipeline.server.endpoints.aggregates import COMMAND_ID, ISSUED

IDEMPOTENCY_KEY, ISSUED_AT = COMMAND_ID.name, ISSUED.name  # the names of the headers
Options = dict[str, Any]
T = TypeVar("T")


@dataclass(slots=True)
class OwnRequest:
    """One request to a web page. `key`, `issued`: its headers Idempotency-Key and X-Issued-At, empty without.

    Its first command has the key as its id, the second one that ends with /2, and so on: a request that is sent again
    has the same ids, as long as its page sends the same commands in the same order.
    """

    logs: Logs
    writes: OwnWrites
    key: str = ""
    issued: str = ""
    commands: int = 0

    def sending(self, options: Mapping[str, Any]) -> Options:
        """Return the options of the next command. Raises BadRequest if a header cannot be used."""
        if not self.key or "command_id" in options:
            return {**options}
        self.commands += 1
        command_id = COMMAND_ID.parse(self.key)
        given: Options = {"command_id": command_id if self.commands == 1 else f"{command_id}/{self.commands}"}
        given |= {"issued_ms": ISSUED.parse(self.issued)} if self.issued else {}
        return given | dict(options)

    def stored(self, token: str | None) -> None:
        """Note the position at which something was stored, or which contains what came of it."""
        self.logs.note(self.writes, token)

    def decided(self, outcome: T) -> T:
        """Note the position that contains what came of a command, and return the outcome."""
        if isinstance(outcome, Accepted):
            self.stored(outcome.position)
        return outcome

    def not_decided(self, error: NoReply) -> None:
        """Note a command whose outcome is not known yet."""
        self.stored(error.stored)

    def reads_own_writes(self, options: Mapping[str, Any]) -> bool:
        """Whether a read with these options has to contain what was written; if not, the page's author says so."""
        return not (
            {"at_least", "max_age"} & options.keys()
            or options.get("consistency") == "eventual"
            or not (self.writes.asked or self.writes.written)
        )

    def at_least(self, table: AnyTable) -> str:
        """Return the token that a read of the table has to contain. Blocks unless `logs.are_known`."""
        return self.logs.at_least(table, self.writes)

"""old state -> state of today: apply the migrations of an aggregate to what was read of its states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.errors import EncodeError, UpcastFailed
from pipeline.flow.functions.raised import is_topologys
from pipeline.flow.functions.upcasting import as_given
from pipeline.model.changes.migrations import Migrations


def migrating(
    topic: str, state: object, migrate: Migrations, fit: Callable[[Any], Any] = as_given
) -> Callable[[Any], Any]:
    """Return what makes a state of today of an old one in a message, along the chain of its migrations.

    `state`: the class of today. `fit`: as for `upcasting`. Raises UpcastFailed: without its state nothing can be
    decided.
    """

    def migrated(message: Any) -> Any:
        if message is None or type(message.body) not in migrate:
            return message
        body = message.body
        for _ in migrate:
            old = body
            try:
                body = migrate[type(old)](old)
            except BaseException as error:
                if not is_topologys(error):
                    raise
                raise UpcastFailed(f"{_migration(old)} raised {type(error).__name__}: {error}") from error
            if type(body) is state:
                try:
                    return message._replace(body=fit(body))
                except EncodeError as error:
                    raise UpcastFailed(f"{_migration(old)} gave what cannot be stored: {error}") from error
            if type(body) not in migrate:
                raise UpcastFailed(f"{_migration(old)} gave {body!r:.100}, which is no state of today")
        raise UpcastFailed(f"{_migration(message.body)} gives old states in a circle; let one give a state of today")

    def _migration(old: Any) -> str:
        return f"the migration of {type(old).__name__} on {topic}"

    return migrated

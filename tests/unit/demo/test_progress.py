"""When a demo or a test may say that all is done."""

from __future__ import annotations

from pipeline.demo.progress import Settling
from pipeline.engine.ports import TP

COMMANDS, EVENTS = TP("users.command", 0), TP("users.event", 0)


def test_what_was_committed_after_the_ends_were_looked_at_may_have_effects_behind_them() -> None:
    settling = Settling()
    waiting = {COMMANDS: 3, EVENTS: 0}
    assert not settling.look(waiting, passed=False)
    # The ends are as before. All is folded, in one transaction, between the look at them and that at the commits.
    assert not settling.look(waiting, passed=True)
    assert not settling.look({COMMANDS: 3, EVENTS: 3}, passed=False)
    assert not settling.look({COMMANDS: 3, EVENTS: 3}, passed=True)
    assert settling.look({COMMANDS: 3, EVENTS: 3}, passed=True)


def test_nothing_is_settled_by_one_look() -> None:
    assert not Settling().look({COMMANDS: 3}, passed=True)
    assert not Settling().look({}, passed=True)

"""What a check is, and how many run side by side, each within its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from pipeline.adapters import descriptors
from pipeline.errors import PipelineError

PATIENCE_S = 30.0  # of all checks together: they run side by side


class Level(Enum):
    """How well something is. Only `WRONG` keeps services from working as they should."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    SKIPPED = "skipped"  # it could not be looked at, for a reason that another check names


class Finding(NamedTuple):
    """What a check has found. `cure`: what to do; empty if all is well."""

    level: Level
    says: str
    cure: str = ""


class Checked(NamedTuple):
    """A finding, and the check that has found it."""

    check: str
    finding: Finding

    def as_json(self) -> dict[str, Any]:
        """Return it for a machine."""
        level, says, cure = self.finding
        return {"check": self.check, "level": level.value, "says": says, "cure": cure or None}


Check = Callable[[], Iterable[Finding]]


def ok(says: str) -> Finding:
    """Return that something is well."""
    return Finding(Level.OK, says)


def warning(says: str, cure: str) -> Finding:
    """Return that something should be seen to."""
    return Finding(Level.WARNING, says, cure)


def wrong(says: str, cure: str) -> Finding:
    """Return that something is wrong."""
    return Finding(Level.WRONG, says, cure)


def skipped(why: str) -> Finding:
    """Return that something was not looked at."""
    return Finding(Level.SKIPPED, why)


def run_checks(checks: Mapping[str, Check], patience_s: float = PATIENCE_S) -> Iterator[Checked]:
    """Run all side by side, and yield what each has found, in order; one that takes longer is given up."""
    found: dict[str, list[Finding]] = {}

    def run(name: str, check: Check) -> None:
        found[name] = _found(check)

    threads = {name: threading.Thread(target=run, args=(name, check), daemon=True) for name, check in checks.items()}
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + patience_s
    for name, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        late = wrong(f"no answer within {patience_s:g} s", "look whether the broker is well, and try again")
        for finding in found.get(name, [late]):
            yield Checked(name, finding)


def _found(check: Check) -> list[Finding]:
    """Return what a check finds; an error is a finding, too."""
    try:
        return list(check())
    except PipelineError as error:
        return [wrong(str(error), "as it says")]
    except OSError as error:
        cure = descriptors.cure() if descriptors.exhausted(error) else "see to that, and try again"
        return [wrong(str(error), cure)]
    except Exception as error:  # a check that fails says nothing of the others
        return [wrong(f"the check itself failed: {error!r:.300}", "report it; the other checks stand")]

"""Open files: how many this process may have, what one takes, and how running out of them is told.

One word for all that takes a file descriptor: files, sockets, pipes. What things take was counted in /proc/PID/fd, see
docs/architecture.md.
"""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress

WANTED_MAX = 65_536  # no process of ours needs more, and a limit without end costs who walks through all numbers
TRIED = (WANTED_MAX, 10_240, 4_096, 1_024)  # macOS refuses more than kern.maxfilesperproc, whatever its hard limit says
SIGNS = ("Too many open files", "os error 24)", "os error 23)")  # in the words of libraries that keep no number


def limit() -> int:
    """How many files this process may have open now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED_MAX if soft == resource.RLIM_INFINITY else min(soft, WANTED_MAX)


def raise_limit() -> int:
    """Raises the soft limit as far as the hard one and the system let it, and returns what it is now.

    It is never lowered. Processes that are started from here have it, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limit()
    ceiling = WANTED_MAX if hard == resource.RLIM_INFINITY else min(hard, WANTED_MAX)
    for wanted in (ceiling, *(n for n in TRIED if n < ceiling)):
        if wanted <= soft:
            break
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            break
    return limit()


def exhausted(error: BaseException | str) -> bool:
    """Whether that says that no more files may be opened, by this process or by all of the machine."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return True
    return any(sign in str(error) for sign in SIGNS)


def fewer_left_than(count: int) -> bool:
    """Whether fewer files can be opened just now, for what says only that it could not open one."""
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return exhausted(error)
    finally:
        for number in opened:
            os.close(number)
    return False


def cure(needed: int | None = None) -> str:
    """What to do about it."""
    more = f"at least {needed:,}" if needed else "more"
    return (
        f"this process may have {limit():,} open (RLIMIT_NOFILE): allow {more} with ulimit -n, docker run --ulimit or "
        "systemd's LimitNOFILE, or run fewer services in one worker (--service)"
    )

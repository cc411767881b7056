"""Open files: how many this process may have, how many a thing needs, and how to detect that they are exhausted.

One word for all that takes a file descriptor: files, sockets, pipes. The needs were counted in /proc/PID/fd, see
docs/architecture.md.
"""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress

WANTED_MAX = 65_536  # none of our processes needs more, and a larger limit costs programs that walk through all numbers
TRIED = (WANTED_MAX, 10_240, 4_096, 1_024)  # macOS refuses more than kern.maxfilesperproc, whatever its hard limit says
SIGNS = ("Too many open files", "os error 24)", "os error 23)")  # in the words of libraries that keep no number


def limit() -> int:
    """Return how many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED_MAX if soft == resource.RLIM_INFINITY else min(soft, WANTED_MAX)


def raise_limit() -> int:
    """Raise the soft limit as far as the hard one and the system allow. Return the new limit.

    It is never lowered. Child processes inherit it.
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
    """Return whether an error means that no more files may be opened, by this process or on the whole machine."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return True
    return any(sign in str(error) for sign in SIGNS)


def fewer_left_than(count: int) -> bool:
    """Return whether fewer files can be opened now, for errors that do not say why a file could not be opened."""
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
    """Return what an operator can do about exhausted files."""
    more = f"at least {needed:,}" if needed else "more"
    return (
        f"this process may have {limit():,} open (RLIMIT_NOFILE): allow {more} with ulimit -n, docker run --ulimit or "
        "systemd's LimitNOFILE, or run fewer services in one worker (--service)"
    )

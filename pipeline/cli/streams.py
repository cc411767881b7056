"""The standard streams and the files of a command, when they are not there, full or not allowed."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LACKING = "backslashreplace"  # for letters of the data that a terminal lacks
PLACE = "name another place, or see to the rights there"
CURES = {
    errno.ENOENT: "name one that is there",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "a file stands where a directory is needed; name another place",
    errno.EEXIST: "a file stands where a directory is needed; name another place",
    errno.EACCES: PLACE,
    errno.EPERM: PLACE,
    errno.EROFS: PLACE,
    errno.ENOSPC: "make room there, or name another place",
    errno.EDQUOT: "make room there, or name another place",
    errno.ENAMETOOLONG: "name a shorter one",
    errno.ELOOP: "its symbolic links go round; mend them",
}


def cure_of(error: OSError) -> str | None:
    """Return what to do about a file or directory that cannot be used; None if the error names none."""
    return None if error.filename is None else CURES.get(error.errno or 0)


def open_streams() -> None:
    """Have all three standard streams open, and take any text.

    A stream that was closed would leave its number to a socket or table, into which output would then go. Using it
    fails, as it would have; only stderr takes what is written.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)  # the lowest number that is free
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    sys.stdin = sys.stdin or os.fdopen(0, "r")
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    if isinstance(out := sys.stdout, io.TextIOWrapper):
        lines, through, encoding = out.line_buffering, out.write_through, out.encoding
        sys.stdout = Output(out.detach(), encoding, LACKING, line_buffering=lines, write_through=through)


class Output(io.TextIOWrapper):
    """Standard output that remembers the error with which it has failed."""

    failed: OSError | None = None

    def write(self, text: str) -> int:
        """Write text, as any stream does."""
        with self._remembering():
            return super().write(text)

    def flush(self) -> None:
        """Hand to the system what was written, as any stream does."""
        with self._remembering():
            super().flush()

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = error
            raise


def output_error() -> OSError | None:
    """Return the error with which standard output has failed, if it has."""
    return getattr(sys.stdout, "failed", None)

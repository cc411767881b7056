"""Which exceptions are the topology's, so that the record is parked, and which the engine's, which end the lane."""

from __future__ import annotations

from traceback import clear_frames

from pipeline.errors import Ending, NeedsOperator, Retryable

ENGINE = (Retryable, NeedsOperator, Ending)  # what the engine itself raises while a step runs
ROOM_BYTES = 16 << 20


def is_topologys(error: BaseException) -> bool:
    """Whether the topology's code has raised that, be it SystemExit, KeyboardInterrupt or a class of its own.

    A MemoryError is, too, if there is memory again once what that code has made is dropped: then one record asks for
    more than there is. Otherwise the process is out of memory, and no record is to blame.
    """
    if not isinstance(error, MemoryError):
        return not isinstance(error, ENGINE)
    clear_frames(error.__traceback__)
    try:
        bytearray(ROOM_BYTES)
    except MemoryError:
        return False
    return True

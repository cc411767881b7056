"""Which exceptions are the topology's, so that the record is parked, and which the engine's, which end the lane."""

from __future__ import annotations

from traceback import clear_frames, walk_tb

from pipeline.errors import Ending, NeedsOperator, Retryable

ENGINE = (Retryable, NeedsOperator)  # what the engine itself raises while a step runs
CALLS, ANSWERS = "pipeline.flow.", "pipeline.engine."  # modules that call functions, and that these may call
ROOM_BYTES = 16 << 20


def is_topologys(error: BaseException) -> bool:
    """Whether the topology's code has raised that, be it SystemExit, KeyboardInterrupt or a class of its own.

    A MemoryError is, too, if there is memory again once what that code has made is dropped: then one record asks for
    more than there is. Otherwise the process is out of memory, and no record is to blame.
    """
    if isinstance(error, MemoryError):
        clear_frames(error.__traceback__)
        return _is_room()
    if isinstance(error, ENGINE):
        return _is_from_a_function(error)  # of a client that it uses, say
    return not isinstance(error, Ending)


def _is_room() -> bool:
    try:
        bytearray(ROOM_BYTES)
    except MemoryError:
        return False
    return True


def _is_from_a_function(error: BaseException) -> bool:
    """Whether an error of the engine's kind comes out of a function of the topology, not of a copy that this reads."""
    called: str | None = None  # the module that was entered from `flow` last
    in_flow = False
    for frame, _ in walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__"))
        if module.startswith(CALLS):
            in_flow, called = True, None
        elif in_flow:
            in_flow, called = False, module
    return called is not None and not called.startswith(ANSWERS)

"""Names of the positions that a task's store keeps beside its rows."""

from __future__ import annotations


def source_position(topic: str) -> str:
    """Name of the position, in a task's store, up to which its source partition is folded in."""
    return f"source:{topic}"


def changelog_position(topic: str) -> str:
    """Name of the position, in a task's store, up to which a table's changelog partition is contained in it."""
    return f"changelog:{topic}"


def changelog_identity(topic: str) -> str:
    """Name of the position that holds the changelog topic's identity: which topic of that name this is a copy of."""
    return f"identity:{topic}"


CAUGHT_UP_MS = "level"  # the position that holds when the store last lacked nothing, in milliseconds since the epoch

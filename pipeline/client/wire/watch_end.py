"""Why a watch ends, as the server writes it and the client reads it."""

from __future__ import annotations

SLOW, LOST, BROKEN, CLOSING = "slow", "lost", "broken", "closing"  # why a stream ends

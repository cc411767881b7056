"""The line between `pipeline dev` and a process of services that it starts: a JSON object a line, either way."""

from __future__ import annotations

import json
import select
import socket
from collections import deque
from typing import Any

BYTES = 1 << 16
GO: dict[str, Any] = {"go": True}


class Line:
    """One end. The other end's is over if that process has ended."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._rest = b""
        self._read: deque[dict[str, Any]] = deque()
        self.is_over = False

    def say(self, message: dict[str, Any]) -> None:
        """Send a message; one that has no reader any more is lost."""
        try:
            self._end.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.is_over = True

    def hear(self, wait_s: float | None = None) -> dict[str, Any] | None:
        """Return the next message; None if there is none within `wait_s`, or ever again."""
        while not self._read and not self.is_over:
            if not select.select([self._end], [], [], wait_s)[0]:
                return None
            self._take_in()
        return self._read.popleft() if self._read else None

    def _take_in(self) -> None:
        try:
            data = self._end.recv(BYTES)
        except OSError:
            data = b""
        self.is_over = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._read.extend(map(json.loads, lines))

    def close(self) -> None:
        """Close this end."""
        self._end.close()

"""Faust's worker as the process of a pipeline: signals and what it shows."""

from __future__ import annotations

import signal
from typing import Any

import faust


class FaustWorker(faust.Worker):
    """Stops as cleanly at a closed terminal as at SIGTERM, and shows no spinner: its codes do not belong in a log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spinner = None

    def _install_signal_handlers_unix(self) -> None:
        super()._install_signal_handlers_unix()
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            self.loop.add_signal_handler(signal.SIGHUP, self._schedule_shutdown, signal.SIGHUP)
